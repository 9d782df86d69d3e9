import { randomBytes, randomUUID } from "node:crypto";
import { type StoreCall, type StoreReply, startStoreServer } from "./store-server.ts";
import { answerTransit, readTransitKey, type TransitKey } from "./vault-transit.ts";
import type { KvVersion, TokenEntry, Vault, VaultOptions, VaultRole } from "./vault-types.ts";

const refuse = (status: number, ...errors: string[]): StoreReply => ({ status, body: { errors } });
const wrap = (data: unknown): Record<string, unknown> => ({
  request_id: randomUUID(),
  lease_id: "",
  renewable: false,
  lease_duration: 0,
  data,
  wrap_info: null,
  warnings: null,
  auth: null,
});

/**
 * HashiCorp Vault by its HTTP API's documents: tokens with leases, the Kubernetes login, KV version 2, transit, the
 * seal, quotas, namespaces. Written from the documents, not verified against the real program.
 */
export async function startVault(options: VaultOptions = {}): Promise<Vault> {
  const { kubernetesMount = "kubernetes", kvMount = "secret", transitMount = "transit" } = options;
  const tokens = new Map<string, TokenEntry>();
  const roles = new Map<string, VaultRole>(Object.entries(options.roles ?? {}));
  const kv = new Map<string, KvVersion[]>();
  const keys = new Map<string, TransitKey[]>();
  const denied = new Set<string>();
  let isSealed = false;
  let limited = { times: 0, retryAfterS: 0 };
  let offsetMs = 0;
  const nowMs = (): number => Date.now() + offsetMs;

  const issue = ({
    ttlS,
    maxTtlS,
    isRenewable = true,
  }: {
    ttlS?: number;
    maxTtlS?: number;
    isRenewable?: boolean;
  } = {}): string => {
    const token = `hvs.${randomBytes(48).toString("base64url")}`;
    tokens.set(token, {
      expiresMs: ttlS === undefined ? undefined : nowMs() + ttlS * 1_000,
      maxMs: maxTtlS === undefined ? undefined : nowMs() + maxTtlS * 1_000,
      ttlS: ttlS ?? 0,
      isRenewable: ttlS !== undefined && isRenewable,
    });
    return token;
  };
  const entryOf = (token: string): TokenEntry | undefined => {
    const entry = tokens.get(token);
    if (entry?.expiresMs !== undefined && entry.expiresMs <= nowMs()) tokens.delete(token);
    return tokens.get(token);
  };
  const leftS = ({ expiresMs }: TokenEntry): number =>
    expiresMs === undefined ? 0 : Math.max(0, Math.floor((expiresMs - nowMs()) / 1_000));
  const authOf = (token: string, entry: TokenEntry): unknown => ({
    ...wrap(null),
    auth: {
      client_token: token,
      accessor: randomUUID(),
      policies: ["default", "mig"],
      token_policies: ["default", "mig"],
      metadata: null,
      lease_duration: leftS(entry),
      renewable: entry.isRenewable,
      entity_id: "",
      token_type: "service",
      orphan: true,
    },
  });

  function answer(call: StoreCall): StoreReply {
    const path = decodeURIComponent(call.url.pathname.replace(/^\/v1\//, ""));
    if (path === "sys/health")
      return { status: isSealed ? 503 : 200, body: { initialized: true, sealed: isSealed, standby: false } };
    if (isSealed) return refuse(503, "Vault is sealed");
    if (limited.times > 0) {
      limited = { ...limited, times: limited.times - 1 };
      return {
        ...refuse(429, `request path "${path}": rate limit quota exceeded`),
        headers: { "retry-after": String(limited.retryAfterS) },
      };
    }
    const body = call.body.length === 0 ? {} : (JSON.parse(call.body.toString()) as Record<string, unknown>);
    if (path === `auth/${kubernetesMount}/login`) return logIn(body);
    const token = String(call.headers["x-vault-token"] ?? "");
    const entry = entryOf(token);
    if (entry === undefined)
      return refuse(403, "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n");
    if (denied.has(path)) return refuse(403, "1 error occurred:\n\t* permission denied\n\n");
    if (path.startsWith("auth/token/"))
      return answerToken(path.slice("auth/token/".length), call.method, token, entry);
    if (path.startsWith(`${transitMount}/`))
      return answerTransit(path.slice(transitMount.length + 1), call.method, body, keys, refuse, wrap);
    if (!path.startsWith(`${kvMount}/`))
      return refuse(404, `no handler for route "${path}". route entry not found.`);
    return answerKv(path.slice(kvMount.length + 1), call);
  }

  function logIn({ role, jwt }: Record<string, unknown>): StoreReply {
    const found = roles.get(String(role));
    if (found === undefined) return refuse(400, `invalid role name "${String(role)}"`);
    if (found.jwt !== jwt) return refuse(403, "permission denied");
    const token = issue(found);
    return { status: 200, body: authOf(token, tokens.get(token) as TokenEntry) };
  }

  function answerToken(verb: string, method: string, token: string, entry: TokenEntry): StoreReply {
    if (verb === "lookup-self" && method === "GET")
      return {
        status: 200,
        body: wrap({
          id: token,
          ttl: leftS(entry),
          renewable: entry.isRenewable,
          policies: ["default", "mig"],
          type: "service",
        }),
      };
    if (method !== "POST") return refuse(405);
    if (verb === "revoke-self") {
      tokens.delete(token);
      return { status: 204 };
    }
    if (verb !== "renew-self") return refuse(404);
    if (!entry.isRenewable) return refuse(400, "lease is not renewable");
    entry.expiresMs = Math.min(nowMs() + entry.ttlS * 1_000, entry.maxMs ?? Number.POSITIVE_INFINITY);
    return { status: 200, body: authOf(token, entry) };
  }

  function answerKv(rest: string, { method, url, headers }: StoreCall): StoreReply {
    const [, kind, path = ""] = /^(data|metadata)\/(.+)$/.exec(rest) ?? [];
    if (kind === undefined || method !== "GET")
      return {
        status: 404,
        body: {
          errors: [],
          warnings: [
            `Invalid path for a versioned K/V secrets engine. See the API docs for the appropriate API endpoints to use. If using the Vault CLI, use 'vault kv get' for this operation.`,
          ],
        },
      };
    const namespace = String(headers["x-vault-namespace"] ?? "").replace(/\/$/, "");
    const versions = kv.get(`${namespace} ${path}`);
    if (versions === undefined) return refuse(404);
    if (kind === "metadata")
      return { status: 200, body: wrap({ current_version: versions.length, oldest_version: 1 }) };
    const asked = Number(url.searchParams.get("version") ?? 0);
    const version = asked === 0 ? versions.length : asked;
    const found = versions[version - 1];
    if (found === undefined) return refuse(404);
    const isThere = found.state === "there";
    const metadata = {
      created_time: "2026-11-21T05:00:00.000000000Z",
      custom_metadata: null,
      deletion_time: found.state === "deleted" ? "2026-11-21T06:00:00.000000000Z" : "",
      destroyed: found.state === "destroyed",
      version,
    };
    return { status: isThere ? 200 : 404, body: wrap({ data: isThere ? found.fields : null, metadata }) };
  }

  const server = await startStoreServer(answer, options.tls);
  return {
    ...server,
    giveToken: issue,
    revoke: (token) => void tokens.delete(token),
    tokens: () => [...tokens.keys()].filter((token) => entryOf(token) !== undefined),
    leftS(token) {
      const entry = entryOf(token);
      if (entry === undefined) return 0;
      return entry.expiresMs === undefined ? Number.POSITIVE_INFINITY : leftS(entry);
    },
    setJwt(role, jwt) {
      const known = roles.get(role);
      if (known !== undefined) roles.set(role, { ...known, jwt });
    },
    put(path, fields, namespace = "") {
      const versions = kv.get(`${namespace} ${path}`) ?? [];
      versions.push({ fields, state: "there" });
      kv.set(`${namespace} ${path}`, versions);
      return versions.length;
    },
    remove(path, version, kind = "deleted") {
      const found = kv.get(` ${path}`)?.[version - 1];
      if (found !== undefined) found.state = kind;
    },
    deny: (path, isDenied = true) => void (isDenied ? denied.add(path) : denied.delete(path)),
    seal() {
      isSealed = true;
    },
    unseal() {
      isSealed = false;
    },
    limit(times, retryAfterS) {
      limited = { times, retryAfterS };
    },
    importKey(name, pem) {
      const versions = keys.get(name) ?? [];
      versions.push(readTransitKey(pem));
      keys.set(name, versions);
      return versions.length;
    },
    advance(ms) {
      offsetMs += ms;
    },
  };
}
