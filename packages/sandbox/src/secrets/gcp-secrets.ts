import { randomBytes } from "node:crypto";
import { type StoreReply, type StoreServer, startStoreServer } from "./store-server.ts";

export interface GcpSecretManager extends StoreServer {
  /** A new version, and its number. */
  put(project: string, secret: string, value: string | Buffer, location?: string): number;
  setState(
    project: string,
    secret: string,
    version: number,
    state: "ENABLED" | "DISABLED" | "DESTROYED",
  ): void;
  deny(project: string, secret: string, isDenied?: boolean): void;
  /** An access token that it takes. */
  giveToken(): string;
  /** No token that was given is taken any more. */
  forgetTokens(): void;
  /** The next so many payloads have a flipped bit, and the checksum of what they should be. */
  corrupt(times: number): void;
}

interface Version {
  value: Buffer;
  state: "ENABLED" | "DISABLED" | "DESTROYED";
}

/**
 * Secret Manager's REST method `versions.access` (v1), by its reference: bearer tokens, `latest`, the checksum, Google's
 * error model. Its CRC32C is computed bit by bit and not by the table that the product uses. Written from the documents,
 * not verified against the real service.
 */
export async function startGcpSecretManager(): Promise<GcpSecretManager> {
  const tokens = new Set<string>();
  const secrets = new Map<string, { versions: Version[]; isDenied: boolean }>();
  let corrupted = 0;
  const refuse = (code: number, status: string, message: string): StoreReply => ({
    status: code,
    headers: code === 401 ? { "www-authenticate": 'Bearer realm="https://accounts.google.com/"' } : {},
    body: { error: { code, message, status } },
  });

  const server = await startStoreServer(({ method, rawPath, headers }) => {
    const [, token = ""] = /^Bearer (\S+)$/.exec(headers.authorization ?? "") ?? [];
    if (!tokens.has(token))
      return refuse(
        401,
        "UNAUTHENTICATED",
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential.",
      );
    const [, parent = "", name = "", wanted = ""] =
      /^\/v1\/(projects\/[^/]+(?:\/locations\/[^/]+)?)\/secrets\/([^/]+)\/versions\/([^/:]+):access$/.exec(
        rawPath,
      ) ?? [];
    if (name === "" || method !== "GET") return refuse(404, "NOT_FOUND", "Requested entity was not found.");
    const secret = secrets.get(`${parent}/secrets/${name}`);
    if (secret === undefined)
      return refuse(404, "NOT_FOUND", `Secret [${parent}/secrets/${name}] not found or has no versions.`);
    if (secret.isDenied)
      return refuse(
        403,
        "PERMISSION_DENIED",
        `Permission 'secretmanager.versions.access' denied for resource '${parent}/secrets/${name}/versions/${wanted}' (or it may not exist).`,
      );
    const number = wanted === "latest" ? secret.versions.length : Number(wanted);
    const version = secret.versions[number - 1];
    const resource = `${parent}/secrets/${name}/versions/${number}`;
    if (version === undefined) return refuse(404, "NOT_FOUND", `Secret Version [${resource}] not found.`);
    if (version.state !== "ENABLED")
      return refuse(400, "FAILED_PRECONDITION", `Secret Version [${resource}] is in ${version.state} state.`);
    const sent = Buffer.from(version.value);
    if (corrupted > 0) {
      corrupted -= 1;
      sent[0] = (sent[0] ?? 0) ^ 1;
    }
    return {
      status: 200,
      body: {
        name: resource,
        payload: { data: sent.toString("base64"), dataCrc32c: String(castagnoli(version.value)) },
      },
    };
  });
  const parentOf = (project: string, location?: string): string =>
    `projects/${project}${location === undefined ? "" : `/locations/${location}`}`;
  return {
    ...server,
    put(project, secret, value, location) {
      const key = `${parentOf(project, location)}/secrets/${secret}`;
      const entry = secrets.get(key) ?? { versions: [], isDenied: false };
      entry.versions.push({ value: Buffer.from(value), state: "ENABLED" });
      secrets.set(key, entry);
      return entry.versions.length;
    },
    setState(project, secret, version, state) {
      const entry = secrets.get(`${parentOf(project)}/secrets/${secret}`)?.versions[version - 1];
      if (entry !== undefined) entry.state = state;
    },
    deny(project, secret, isDenied = true) {
      const entry = secrets.get(`${parentOf(project)}/secrets/${secret}`);
      if (entry !== undefined) entry.isDenied = isDenied;
    },
    giveToken() {
      const token = `ya29.${randomBytes(48).toString("base64url")}`;
      tokens.add(token);
      return token;
    },
    forgetTokens: () => tokens.clear(),
    corrupt(times) {
      corrupted = times;
    },
  };
}

function castagnoli(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f6_3b78 : 0);
  }
  return ~crc >>> 0;
}
