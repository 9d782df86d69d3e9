import { createHash, createPublicKey, type KeyObject, verify } from "node:crypto";
import { MigError } from "@mig/lifecycle";

/** RSASSA-PKCS1-v1_5 with SHA-256: what a GitHub App's JWT is signed with. */
export type SignAlgorithm = "RS256";

/** A key that signs where it lies. Its owner never gets it out, and so neither does whoever gets into us. */
export interface RemoteSigner {
  sign(algorithm: SignAlgorithm, bytes: Buffer): Promise<Buffer>;
  readonly publicKey: KeyObject;
  /** base64 of the SHA-256 of the DER public key: as GitHub shows it. */
  readonly fingerprint: string;
  readonly version: string;
}

export interface SignerKey {
  version: string;
  publicKey: KeyObject;
  fingerprint: string;
}

/** Throws `secret_invalid` for what GitHub takes no JWT of. */
export function readSignerKey(pem: string, version: string, what: string): SignerKey {
  let publicKey: KeyObject;
  try {
    publicKey = createPublicKey(pem);
  } catch {
    throw new MigError("secret_invalid", `${what}: version ${version} has no public key that can be read`);
  }
  if (publicKey.asymmetricKeyType !== "rsa" || (publicKey.asymmetricKeyDetails?.modulusLength ?? 0) < 2048)
    throw new MigError(
      "secret_invalid",
      `${what} is not an RSA key of 2048 bits or more; GitHub takes no other`,
    );
  const der = publicKey.export({ type: "spki", format: "der" });
  return { version, publicKey, fingerprint: createHash("sha256").update(der).digest("base64") };
}

/** A signature by another key, or over something else, is told here and not by GitHub's 401. */
export function demandSignature(key: SignerKey, bytes: Buffer, signature: Buffer, what: string): Buffer {
  if (!verify("RSA-SHA256", bytes, key.publicKey, signature))
    throw new MigError("secret_invalid", `${what} signed with something else than its public key says`);
  return signature;
}
