import { createHash, createPrivateKey, createPublicKey, createSign, type KeyObject } from "node:crypto";
import { MigError } from "@mig/lifecycle";

/** A key of a GitHub App, which may live in a store that only signs (vault transit, a KMS). */
export interface AppKey {
  /** As GitHub shows it: base64 of the SHA-256 of the DER public key. */
  readonly fingerprint: string;
  /** RSASSA-PKCS1-v1_5 with SHA-256. */
  sign(data: string): Promise<Buffer>;
}

/** From the PEM that GitHub gives out, PKCS#1 or PKCS#8, also with `\n` written out. Throws `secret_invalid`. */
export function readAppKey(pem: string): AppKey {
  let key: KeyObject;
  try {
    key = createPrivateKey(pem.includes("\\n") ? pem.replaceAll("\\n", "\n") : pem);
  } catch {
    // Without its cause: parsers quote what they could not read.
    throw new MigError(
      "secret_invalid",
      "the GitHub App's key is no PEM private key; is it the file that GitHub gave out?",
    );
  }
  const bits = key.asymmetricKeyDetails?.modulusLength ?? 0;
  if (key.asymmetricKeyType !== "rsa" || bits < 2048)
    throw new MigError("secret_invalid", "the GitHub App's key is not RSA of 2048 bits or more");
  const der = createPublicKey(key).export({ type: "spki", format: "der" });
  return {
    fingerprint: createHash("sha256").update(der).digest("base64"),
    sign: async (data) => createSign("RSA-SHA256").update(data).sign(key),
  };
}

/**
 * RS256. Issued a minute ago, because clocks differ, and valid for eight more: GitHub allows ten in all and refuses
 * exactly ten when its clock is behind (go-agent-wire C17). `nowMs` is GitHub's time, as far as it is known.
 */
export async function signJwt(appId: string, key: AppKey, nowMs: number): Promise<string> {
  const nowS = Math.floor(nowMs / 1000);
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const unsigned = `${part({ alg: "RS256", typ: "JWT" })}.${part({ iat: nowS - 60, exp: nowS + 480, iss: appId })}`;
  return `${unsigned}.${(await key.sign(unsigned)).toString("base64url")}`;
}
