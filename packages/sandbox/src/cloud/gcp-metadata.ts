import { createHash } from "node:crypto";
import { type MetadataReply, type MetadataServer, startMetadataServer } from "./metadata-server.ts";

export interface GcpMetadataOptions {
  readonly attributes?: Readonly<Record<string, string>>;
  readonly projectAttributes?: Readonly<Record<string, string>>;
  /** Below `instance/`, for example `machine-type`. */
  readonly facts?: Readonly<Record<string, string>>;
  /** Without it the instance has no service account, and no token is signed for it. */
  readonly signIdentity?: (audience: string) => string;
}

export interface GcpMetadata extends MetadataServer {
  /** Without a value the attribute is removed. */
  setAttribute(name: string, value?: string): void;
  setProjectAttribute(name: string, value?: string): void;
  setFact(name: string, value?: string): void;
  /** `instance/preempted` becomes TRUE. */
  preempt(): void;
  /** NONE, MIGRATE_ON_HOST_MAINTENANCE or TERMINATE_ON_HOST_MAINTENANCE. */
  announceMaintenance(event: string): void;
}

/**
 * Compute Engine's metadata service, as its documents describe it ("View and query VM metadata"): refuses a request
 * without `Metadata-Flavor: Google` or with X-Forwarded-For, marks its own answers so, lists directories, answers
 * `recursive=true` with JSON, and holds `wait_for_change=true` until the value's ETag is another than `last_etag`.
 * Written from the documents, not verified against the real service.
 */
export async function startGcpMetadata(options: GcpMetadataOptions = {}): Promise<GcpMetadata> {
  const values = new Map<string, string>();
  const waiting = new Set<() => void>();
  const set = (path: string, value: string | undefined): void => {
    if (value === undefined) values.delete(path);
    else values.set(path, value);
    for (const wake of [...waiting]) wake();
  };
  const facts = {
    id: "4711000000000000123",
    name: "runner-vm-1",
    hostname: "runner-vm-1.c.acme.internal",
    zone: "projects/1234567890/zones/europe-west1-b",
    "machine-type": "projects/1234567890/machineTypes/n2-standard-4",
    "scheduling/preemptible": "FALSE",
    preempted: "FALSE",
    "maintenance-event": "NONE",
    ...options.facts,
  };
  for (const [name, value] of Object.entries(facts)) set(`instance/${name}`, value);
  for (const [name, value] of Object.entries(options.attributes ?? {}))
    set(`instance/attributes/${name}`, value);
  for (const [name, value] of Object.entries(options.projectAttributes ?? {}))
    set(`project/attributes/${name}`, value);

  const look = (path: string, query: URLSearchParams): Omit<MetadataReply, "headers"> => {
    const value = values.get(path);
    if (value !== undefined) return { status: 200, body: value };
    const isDirectory = path === "" || path.endsWith("/");
    const inside = [...values].filter(([name]) => name.startsWith(isDirectory ? path : `${path}/`));
    const isAttributes = /^(?:instance|project)\/attributes\/$/.test(path);
    if (inside.length === 0 && !isAttributes)
      return { status: 404, body: "<title>Error 404 (Not Found)</title>" };
    if (!isDirectory) return { status: 301 };
    if (query.get("recursive") === "true") {
      const entries = inside.map(([name, one]) => [name.slice(path.length), one] as const);
      return { status: 200, body: JSON.stringify(toTree(entries, isAttributes)) };
    }
    const names = new Set(inside.map(([name]) => name.slice(path.length).replace(/\/.*$/, "/")));
    return { status: 200, body: [...names].map((name) => `${name}\n`).join("") };
  };

  const server = await startMetadataServer(async ({ headers, method }, { pathname, searchParams }, gone) => {
    const ours = { "metadata-flavor": "Google", server: "Metadata Server for VM" };
    if (method !== "GET") return { status: 405, headers: ours };
    if (headers["metadata-flavor"] !== "Google")
      return { status: 403, headers: ours, body: "Missing required header: Metadata-Flavor" };
    if (headers["x-forwarded-for"] !== undefined)
      return { status: 403, headers: ours, body: "X-Forwarded-For is not allowed" };
    if (pathname === "/") return { status: 200, headers: ours, body: "computeMetadata/\n" };
    const path = decodeURIComponent(pathname.replace(/^\/computeMetadata\/v1\//, ""));
    if (path === pathname) return { status: 404, headers: ours };
    if (path === "instance/service-accounts/default/identity") {
      const audience = searchParams.get("audience") ?? "";
      if (options.signIdentity === undefined) return { status: 404, headers: ours };
      if (audience === "" || searchParams.get("format") !== "full") return { status: 400, headers: ours };
      return { status: 200, headers: ours, body: options.signIdentity(audience) };
    }
    let reply = look(path, searchParams);
    if (searchParams.get("wait_for_change") === "true") {
      const known = searchParams.get("last_etag") ?? etagOf(reply);
      const untilMs = performance.now() + Number(searchParams.get("timeout_sec") ?? 3_600) * 1_000;
      while (etagOf(reply) === known && !gone.aborted && performance.now() < untilMs) {
        await new Promise<void>((resolve) => {
          const wake = (): void => {
            waiting.delete(wake);
            clearTimeout(timer);
            gone.removeEventListener("abort", wake);
            resolve();
          };
          const timer = setTimeout(wake, untilMs - performance.now());
          waiting.add(wake);
          gone.addEventListener("abort", wake, { once: true });
        });
        reply = look(path, searchParams);
      }
    }
    return {
      ...reply,
      headers: {
        ...ours,
        etag: etagOf(reply),
        "content-type": searchParams.get("recursive") === "true" ? "application/json" : "application/text",
        ...(reply.status === 301 ? { location: `${pathname}/` } : {}),
      },
    };
  });
  return {
    ...server,
    setAttribute: (name, value) => set(`instance/attributes/${name}`, value),
    setProjectAttribute: (name, value) => set(`project/attributes/${name}`, value),
    setFact: (name, value) => set(`instance/${name}`, value),
    preempt: () => set("instance/preempted", "TRUE"),
    announceMaintenance: (event) => set("instance/maintenance-event", event),
  };
}

const etagOf = ({ body = "" }: MetadataReply): string =>
  createHash("sha256").update(body).digest("hex").slice(0, 16);

type Tree = { [name: string]: string | Tree };

/** Names of attributes stay as they are; the others come in camelCase. */
function toTree(entries: readonly (readonly [string, string])[], isAttributes: boolean): Tree {
  const tree: Tree = {};
  const put = (name: string, value: string | Tree): void =>
    void Object.defineProperty(tree, name, { value, enumerable: true, configurable: true });
  const folders = new Map<string, [string, string][]>();
  for (const [name, value] of entries) {
    const slash = name.indexOf("/");
    if (slash < 0) put(isAttributes ? name : toCamelCase(name), value);
    else {
      const folder = name.slice(0, slash);
      folders.set(folder, [...(folders.get(folder) ?? []), [name.slice(slash + 1), value]]);
    }
  }
  for (const [folder, inside] of folders) put(toCamelCase(folder), toTree(inside, folder === "attributes"));
  return tree;
}

const toCamelCase = (name: string): string =>
  name.replaceAll(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
