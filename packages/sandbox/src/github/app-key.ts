import { generateKeyPairSync } from "node:crypto";

export interface AppKey {
  /** PKCS#1 (`BEGIN RSA PRIVATE KEY`), the form in which GitHub hands out App keys (runner-contract §8.2). */
  readonly privateKeyPem: string;
  readonly publicKeyPem: string;
}

/** Makes the RSA key pair of a GitHub App for tests and development. */
export function createAppKey(): AppKey {
  const { privateKey, publicKey } = generateKeyPairSync("rsa", {
    modulusLength: 2048,
    privateKeyEncoding: { type: "pkcs1", format: "pem" },
    publicKeyEncoding: { type: "spki", format: "pem" },
  });
  return { privateKeyPem: privateKey, publicKeyPem: publicKey };
}
