import { constants, createPrivateKey, createPublicKey, type KeyObject, sign } from "node:crypto";
import type { StoreReply } from "./store-server.ts";

export interface TransitKey {
  readonly privateKey: KeyObject;
  readonly publicPem: string;
}

export function readTransitKey(pem: string): TransitKey {
  const privateKey = createPrivateKey(pem);
  return {
    privateKey,
    publicPem: createPublicKey(privateKey).export({ type: "spki", format: "pem" }).toString(),
  };
}

/** The transit engine: `keys/NAME` and `sign/NAME/sha2-256`. RSA signs with PSS unless PKCS#1 v1.5 is asked for. */
export function answerTransit(
  path: string,
  method: string,
  body: Readonly<Record<string, unknown>>,
  keys: ReadonlyMap<string, readonly TransitKey[]>,
  refuse: (status: number, ...errors: string[]) => StoreReply,
  wrap: (data: unknown) => Record<string, unknown>,
): StoreReply {
  const [kind = "", name = "", hash = ""] = path.split("/");
  const versions = keys.get(name);
  if (versions === undefined) return kind === "sign" ? refuse(400, "signing key not found") : refuse(404);
  if (kind === "keys" && method === "GET") return { status: 200, body: wrap(describe(name, versions)) };
  if (kind !== "sign" || method !== "POST") return refuse(404);
  if (hash !== "sha2-256") return refuse(400, `invalid hash algorithm "${hash}"`);
  const asked = Number(body["key_version"] ?? 0);
  const version = asked === 0 ? versions.length : asked;
  const key = versions[version - 1];
  if (key === undefined) return refuse(400, "cannot sign with key version: version is not available");
  const input = Buffer.from(String(body["input"] ?? ""), "base64");
  const isPss = (body["signature_algorithm"] ?? "pss") === "pss";
  const signature = sign("RSA-SHA256", input, {
    key: key.privateKey,
    padding: isPss ? constants.RSA_PKCS1_PSS_PADDING : constants.RSA_PKCS1_PADDING,
  });
  return {
    status: 200,
    body: wrap({ signature: `vault:v${version}:${signature.toString("base64")}`, key_version: version }),
  };
}

function describe(name: string, versions: readonly TransitKey[]): unknown {
  return {
    name,
    type: `rsa-${versions[0]?.privateKey.asymmetricKeyDetails?.modulusLength ?? 0}`,
    exportable: false,
    allow_plaintext_backup: false,
    latest_version: versions.length,
    min_available_version: 0,
    min_decryption_version: 1,
    min_encryption_version: 0,
    supports_signing: true,
    imported_key: true,
    keys: Object.fromEntries(
      versions.map(({ publicPem }, index) => [
        String(index + 1),
        { creation_time: "2026-11-21T05:00:00Z", name: "rsa", public_key: publicPem },
      ]),
    ),
  };
}
