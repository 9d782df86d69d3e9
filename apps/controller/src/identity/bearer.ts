import { createHash, randomBytes, timingSafeEqual } from "node:crypto";

/**
 * Keys and tokens that we hand out: `mgk_<12>_<32>` for operators, `mgj_<12>_<32>` for joining. The first part names
 * the row, the second is the secret, of which only the SHA-256 is kept (190 random bits need no slow hash). The prefix
 * is for scanners that look for leaked secrets.
 */
export const bearerKinds = { key: "mgk", join: "mgj" } as const;
export type BearerKind = keyof typeof bearerKinds;

export interface Bearer {
  readonly id: string;
  readonly hash: string;
}

const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

export function mintBearer(kind: BearerKind): Bearer & { readonly text: string } {
  const id = `${bearerKinds[kind]}_${randomText(12)}`;
  const text = `${id}_${randomText(32)}`;
  return { id, text, hash: sha256(text) };
}

export function parseBearer(kind: BearerKind, text: string): Bearer | undefined {
  const pattern = new RegExp(`^(${bearerKinds[kind]}_[0-9A-Za-z]{12})_[0-9A-Za-z]{32}$`);
  const id = pattern.exec(text)?.[1];
  return id === undefined ? undefined : { id, hash: sha256(text) };
}

export function isSameHash(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a, "hex"), Buffer.from(b, "hex")];
  return left.length === right.length && timingSafeEqual(left, right);
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

/** Bytes that would favour the first letters are drawn again. */
function randomText(length: number): string {
  let text = "";
  while (text.length < length)
    for (const byte of randomBytes(length)) {
      if (byte >= 248 || text.length === length) continue;
      text += alphabet[byte % 62] ?? "";
    }
  return text;
}
