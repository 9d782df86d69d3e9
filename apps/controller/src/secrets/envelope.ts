import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { MigError } from "@mig/lifecycle";
import { type KeyRing, keyIdPattern } from "./key-ring.ts";

/**
 * What rests encrypted in the database: `mig1.KEY_ID.WRAP.BODY`. The body is sealed with a key of its own (AES-256-GCM),
 * that key with the master key of this id. Both are bound to `about`, which names the table, the row and its version:
 * an envelope opens in its own row only, and neither rows nor master keys can be exchanged (reliability-security §4.3).
 *
 * To change the master key only the wrap is made anew: the body, and so the secret, is not even opened.
 */
const ivBytes = 12;
const tagBytes = 16;
const keyBytes = 32;

/** `about` for a row. */
export function aboutRow(table: string, ...row: readonly (string | number)[]): string {
  return JSON.stringify(["mig/v1", table, ...row]);
}

export function seal(plain: Uint8Array, about: string, ring: KeyRing): string {
  const dataKey = randomBytes(keyBytes);
  try {
    const body = encrypt(dataKey, plain, bodyAad(about));
    return join(ring.newest, wrap(dataKey, about, ring), body);
  } finally {
    dataKey.fill(0);
  }
}

/** The caller overwrites what it gets. Throws `secret_unavailable` for a key that is not here (yet), else `secret_invalid`. */
export function open(sealed: string, about: string, ring: KeyRing): Buffer {
  const { keyId, wrapped, body } = split(sealed);
  const dataKey = unwrap(keyId, wrapped, about, ring);
  try {
    return decrypt(dataKey, body, bodyAad(about));
  } finally {
    dataKey.fill(0);
  }
}

/** The same secret under the ring's newest key; undefined when it is already. */
export function rewrap(sealed: string, about: string, ring: KeyRing): string | undefined {
  const { keyId, wrapped, body } = split(sealed);
  if (keyId === ring.newest) return undefined;
  const dataKey = unwrap(keyId, wrapped, about, ring);
  try {
    return join(ring.newest, wrap(dataKey, about, ring), body);
  } finally {
    dataKey.fill(0);
  }
}

export function keyIdOf(sealed: string): string {
  return split(sealed).keyId;
}

function wrap(dataKey: Buffer, about: string, ring: KeyRing): Buffer {
  const wrapped = ring.use(ring.newest, (key) => encrypt(key, dataKey, wrapAad(ring.newest, about)));
  if (wrapped === undefined)
    throw new MigError("secret_unavailable", "the master keys are gone: the controller is stopping");
  return wrapped;
}

function unwrap(keyId: string, wrapped: Buffer, about: string, ring: KeyRing): Buffer {
  const dataKey = ring.use(keyId, (key) => decrypt(key, wrapped, wrapAad(keyId, about)));
  if (dataKey === undefined)
    throw new MigError(
      "secret_unavailable",
      `this row is sealed with the master key ${keyId}, which is not among ours (${ring.ids.join(", ")}): add it to the file of master keys`,
      { retryAfterMs: 1_000 },
    );
  return dataKey;
}

function encrypt(key: Buffer, plain: Uint8Array, aad: Buffer): Buffer {
  const iv = randomBytes(ivBytes);
  const cipher = createCipheriv("aes-256-gcm", key, iv, { authTagLength: tagBytes }).setAAD(aad);
  return Buffer.concat([iv, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}

function decrypt(key: Buffer, sealed: Buffer, aad: Buffer): Buffer {
  if (sealed.length < ivBytes + tagBytes) throw damaged();
  // Without authTagLength Node takes tags of four bytes.
  const decipher = createDecipheriv("aes-256-gcm", key, sealed.subarray(0, ivBytes), {
    authTagLength: tagBytes,
  });
  decipher.setAAD(aad).setAuthTag(sealed.subarray(-tagBytes));
  const plain = decipher.update(sealed.subarray(ivBytes, -tagBytes));
  try {
    decipher.final();
    return plain;
  } catch {
    plain.fill(0);
    throw damaged();
  }
}

const damaged = (): MigError =>
  new MigError(
    "secret_invalid",
    "an encrypted value does not open: its row was changed or moved by somebody else than the controller, or restored in part",
  );

const bodyAad = (about: string): Buffer => Buffer.from(about, "utf8");
const wrapAad = (keyId: string, about: string): Buffer =>
  Buffer.from(JSON.stringify(["dek", keyId, about]), "utf8");

const join = (keyId: string, wrapped: Buffer, body: Buffer): string =>
  `mig1.${keyId}.${wrapped.toString("base64url")}.${body.toString("base64url")}`;

function split(sealed: string): { keyId: string; wrapped: Buffer; body: Buffer } {
  const [format, keyId = "", wrapped = "", body = "", ...more] = sealed.split(".");
  if (format !== "mig1" || !keyIdPattern.test(keyId) || more.length > 0) throw damaged();
  return { keyId, wrapped: exactly(wrapped), body: exactly(body) };
}

/** One text for one value: base64 has bits that no decoder looks at, and an envelope has none that may be changed. */
function exactly(text: string): Buffer {
  const bytes = Buffer.from(text, "base64url");
  if (bytes.toString("base64url") !== text) throw damaged();
  return bytes;
}
