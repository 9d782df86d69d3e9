import { randomUUID } from "node:crypto";
import { type StoreReply, type StoreServer, startStoreServer, type TlsFiles } from "./store-server.ts";

export interface KubernetesApi extends StoreServer {
  put(namespace: string, name: string, data: Readonly<Record<string, string | Buffer>>): void;
  remove(namespace: string, name: string): void;
  /** The only bearer that is taken from now on. */
  setToken(token: string): void;
  /** RBAC no longer allows to get it. */
  deny(namespace: string, name: string, isDenied?: boolean): void;
  /** The next so many answers are "too old resource version" (410). */
  expire(times: number): void;
}

/** Kubernetes' API for one verb: get a Secret. Written from its reference, not verified against a real cluster. */
export async function startKubernetesApi(options: { token: string; tls?: TlsFiles }): Promise<KubernetesApi> {
  let { token } = options;
  let version = 1_000;
  let expired = 0;
  const secrets = new Map<string, { data: Record<string, string>; version: number }>();
  const denied = new Set<string>();
  const refuse = (code: number, reason: string, message: string): StoreReply => ({
    status: code,
    body: { kind: "Status", apiVersion: "v1", metadata: {}, status: "Failure", message, reason, code },
  });

  const server = await startStoreServer(({ method, rawPath, headers }) => {
    if (headers.authorization !== `Bearer ${token}`) return refuse(401, "Unauthorized", "Unauthorized");
    const [, namespace = "", name = ""] =
      /^\/api\/v1\/namespaces\/([^/]+)\/secrets\/([^/?]+)$/.exec(rawPath) ?? [];
    const key = `${namespace}/${name}`;
    if (name === "" || method !== "GET")
      return refuse(404, "NotFound", "the server could not find the requested resource");
    if (denied.has(key))
      return refuse(
        403,
        "Forbidden",
        `secrets "${name}" is forbidden: User "system:serviceaccount:mig:controller" cannot get resource "secrets" in API group "" in the namespace "${namespace}"`,
      );
    if (expired > 0) {
      expired -= 1;
      return refuse(410, "Expired", "The resourceVersion for the provided watch is too old.");
    }
    const found = secrets.get(key);
    if (found === undefined) return refuse(404, "NotFound", `secrets "${name}" not found`);
    return {
      status: 200,
      body: {
        kind: "Secret",
        apiVersion: "v1",
        metadata: {
          name,
          namespace,
          uid: randomUUID(),
          resourceVersion: String(found.version),
          creationTimestamp: "2026-11-21T05:00:00Z",
        },
        data: found.data,
        type: "Opaque",
      },
    };
  }, options.tls);
  return {
    ...server,
    put(namespace, name, data) {
      version += 1;
      const encoded = Object.entries(data).map(([key, value]) => [
        key,
        Buffer.from(value).toString("base64"),
      ]);
      secrets.set(`${namespace}/${name}`, { data: Object.fromEntries(encoded), version });
    },
    remove: (namespace, name) => void secrets.delete(`${namespace}/${name}`),
    setToken(next) {
      token = next;
    },
    deny: (namespace, name, isDenied = true) =>
      void (isDenied ? denied.add(`${namespace}/${name}`) : denied.delete(`${namespace}/${name}`)),
    expire(times) {
      expired = times;
    },
  };
}
