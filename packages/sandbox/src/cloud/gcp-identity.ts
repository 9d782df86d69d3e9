import { generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { type MetadataServer, startMetadataServer } from "./metadata-server.ts";

/** What a test wants otherwise than a good token has it. */
export interface GcpTokenChange {
  readonly claims?: Readonly<Record<string, unknown>>;
  /** In `google.compute_engine`; null leaves the block out. */
  readonly engine?: Readonly<Record<string, unknown>> | null;
  readonly header?: Readonly<Record<string, unknown>>;
  readonly key?: KeyObject;
}

/** Google, as far as instance identity tokens go: keys that are published, and tokens signed with them. */
export interface GcpIdentity extends MetadataServer {
  sign(audience: string, change?: GcpTokenChange): string;
}

export async function startGcpIdentity(
  instance: Readonly<Record<string, unknown>> = {},
): Promise<GcpIdentity> {
  const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const jwk = { ...publicKey.export({ format: "jwk" }), kid: "google-1", alg: "RS256", use: "sig" };
  const server = await startMetadataServer(() => ({
    status: 200,
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ keys: [jwk] }),
  }));
  return {
    ...server,
    sign(audience, { claims = {}, engine = {}, header = {}, key = privateKey } = {}) {
      const nowS = Math.floor(Date.now() / 1000);
      const computeEngine = {
        project_id: "acme-ci",
        project_number: 1234567890,
        zone: "europe-west1-b",
        instance_id: "4711000000000000123",
        instance_name: "runner-vm-1",
        instance_creation_timestamp: nowS - 30,
        ...instance,
        ...engine,
      };
      const payload = {
        iss: "https://accounts.google.com",
        aud: audience,
        azp: "1100",
        sub: "1100",
        email: "runners@acme-ci.iam.gserviceaccount.com",
        email_verified: true,
        iat: nowS,
        exp: nowS + 3_600,
        ...(engine === null ? {} : { google: { compute_engine: computeEngine } }),
        ...claims,
      };
      const signed = `${part({ alg: "RS256", typ: "JWT", kid: "google-1", ...header })}.${part(payload)}`;
      return `${signed}.${sign("sha256", Buffer.from(signed), key).toString("base64url")}`;
    },
  };
}

const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
