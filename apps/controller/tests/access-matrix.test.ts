import { waitFor } from "@mig/kit";
import { type Action, accessTable, type Caller, judgeAccess } from "@mig/lifecycle";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { dial } from "./dial.ts";
import { type IdentityLab, openIdentityLab } from "./identity-lab.ts";
import { call } from "./open-test-listeners.ts";

/**
 * Every caller × every object × every route of the OpenAPI document, and every message of the gRPC service: what the
 * table in lifecycle/access.ts lets through gets through, and nothing else. A route that is added is tried by itself.
 */
const openRoutes = [
  "/.well-known/jwks.json",
  "/api/v1/join",
  "/api/v1/join/nonce",
  "/api/v1/vms/{vm_id}/token",
  "/health",
  "/livez",
  "/readyz",
];

/** An object of each organization, for each name that a path or a query may have. */
const objects = {
  acme: { vm_id: "vm-acme", pool: "pool-a", org: "acme" },
  other: { vm_id: "vm-other", pool: "pool-b", org: "other" },
} as const;
type Org = keyof typeof objects;

let lab: IdentityLab;
let tokens: Record<string, string | undefined>;
let callers: Record<string, Caller | undefined>;
const stops: (() => Promise<void>)[] = [];
beforeAll(async () => {
  lab = await openIdentityLab({ atEnd: (stop) => void stops.push(stop) });
  const vm = async (vmId: string, poolId: string): Promise<string> => {
    const { access_token: token } = (await lab.machine(vmId).join(await lab.joinToken({ pool_id: poolId })))
      .body;
    const headers = { authorization: `Bearer ${token}` };
    const beat = await call(`${lab.url}/api/v1/vms/${vmId}/heartbeat`, { json: {}, headers });
    expect(beat.status).toBe(200);
    return token;
  };
  tokens = {
    nobody: undefined,
    garbage: "mgk_000000000000_00000000000000000000000000000000",
    "vm-acme": await vm("vm-acme", "pool-a"),
    "vm-other": await vm("vm-other", "pool-b"),
  };
  callers = {
    nobody: undefined,
    garbage: undefined,
    "vm-acme": { party: "vm", vmId: "vm-acme", poolId: "pool-a", orgId: "acme" },
    "vm-other": { party: "vm", vmId: "vm-other", poolId: "pool-b", orgId: "other" },
  };
  for (const party of ["viewer", "operator", "admin"] as const)
    for (const orgs of [undefined, ["acme"]]) {
      const name = `${party} of ${orgs?.join() ?? "all"}`;
      tokens[name] = await lab.key({ role: party, ...(orgs === undefined ? {} : { orgs }) });
      callers[name] = { party, name, ...(orgs === undefined ? {} : { orgs }) };
    }
});
afterAll(async () => {
  for (const stop of stops) await stop();
});

interface Operation {
  method: string;
  path: string;
  action: Action | undefined;
}

async function readOperations(): Promise<Operation[]> {
  const { paths } = (await call(`${lab.url}/api/v1/openapi.json`)).body;
  return Object.entries<Record<string, { "x-mig-action"?: Action }>>(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, about]) => ({
      method: method.toUpperCase(),
      path,
      action: about["x-mig-action"],
    })),
  );
}

/** A path with the object's names in it, and what it is about as the table sees it. */
function fill(path: string, org: Org): { path: string; object: { vmId?: string; orgId?: string } } {
  const { vm_id: vmId, pool } = objects[org];
  const kind = /^\/api\/v1\/([a-z-]+)/.exec(path)?.[1] ?? "";
  const id = {
    orgs: org,
    pools: pool,
    "github-apps": "default",
    "api-keys": "mgk_000000000000",
    "join-tokens": "mgj_000000000000",
  }[kind];
  const filled = path
    .replace("{vm_id}", vmId)
    .replace("{command_id}", "0190c0de-0000-7000-8000-000000000000")
    .replace("{id}", id ?? "0190c0de-0000-7000-8000-000000000000");
  return { path: filled, object: { vmId, orgId: org } };
}

const bodies: Readonly<Record<string, (org: Org) => object>> = {
  "/api/v1/vms/{vm_id}/commands": () => ({ type: "set_log_level", parameters: { level: "info" } }),
  "/api/v1/fleet/commands": (org) => ({ selector: { org_id: org }, type: "drain" }),
  "/api/v1/pools": (org) => ({ id: objects[org].pool, org_id: org }),
  "/api/v1/orgs": (org) => ({ id: org, github: `https://github.com/${org}` }),
  "/api/v1/github-apps": () => ({ id: "another" }),
  "/api/v1/join-tokens": (org) => ({ pool_id: objects[org].pool }),
  "/api/v1/api-keys": (org) => ({ name: "made", role: "viewer", orgs: [org] }),
};

/** Lists have no object of their own: they are cut to what the caller has, which identity.test.ts holds. */
function isList({ method, path }: Operation): boolean {
  return method === "GET" && !path.includes("{");
}

describe("HTTP", () => {
  it("every route but the open ones asks who calls", async () => {
    const open = (await readOperations()).filter(({ action }) => action === undefined);
    expect(
      [...new Set(open.map(({ path }) => path))].filter((path) => !path.startsWith("/api/v1/openapi")).sort(),
    ).toEqual(openRoutes);
  });

  it("lets through what the table lets through, and nothing else", async () => {
    const operations = (await readOperations()).filter(({ action }) => action !== undefined);
    expect(operations.length).toBeGreaterThan(25);
    const wrong: string[] = [];
    let tried = 0;
    for (const operation of operations) {
      const { method, path, action } = operation;
      if (action === undefined) continue;
      for (const org of ["acme", "other"] as const)
        for (const [name, token] of Object.entries(tokens)) {
          // What is removed or revoked would be gone for the next caller.
          if (method === "DELETE" && path.endsWith("/identity")) continue;
          const { path: filled, object } = fill(path, org);
          const body = method === "GET" || method === "DELETE" ? undefined : (bodies[path]?.(org) ?? {});
          const reply = await (path.endsWith("/stream") ? begin : call)(lab.url + filled, {
            method,
            headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
            ...(body === undefined ? {} : { json: body }),
          });
          tried += 1;
          const caller = callers[name];
          const verdict =
            caller === undefined
              ? "unknown"
              : isList(operation)
                ? roleOnly(caller, action)
                : judgeAccess(caller, action, object);
          const allowed = { unknown: [401], no: [403], foreign: [403, 404], yes: undefined }[verdict];
          const isRight = allowed?.includes(reply.status) ?? ![401, 403].includes(reply.status);
          if (!isRight || reply.status === 500)
            wrong.push(
              `${name}: ${method} ${filled} (${action}: ${verdict}) answered ${reply.status} ${JSON.stringify(reply.body).slice(0, 200)}`,
            );
        }
    }
    expect(wrong).toEqual([]);
    expect(tried).toBeGreaterThan(400);
  });
});

/** A stream does not end by itself: its first line tells enough. */
async function begin(url: string, init: RequestInit): Promise<{ status: number; body: unknown }> {
  const response = await fetch(url, init);
  await response.body?.cancel();
  return { status: response.status, body: undefined };
}

/** Of a list: whether the caller gets one at all. */
function roleOnly(caller: Caller, action: Action): "yes" | "no" {
  const orgs = "orgs" in caller ? caller.orgs : undefined;
  const verdict = judgeAccess(caller, action, {
    ...("vmId" in caller ? { vmId: caller.vmId } : {}),
    ...(orgs === undefined ? {} : { orgId: orgs[0] ?? "" }),
  });
  return verdict === "yes" ? "yes" : "no";
}

describe("gRPC", () => {
  const port = (): number => Number(new URL(lab.url).port);
  const withToken = (token: string | undefined): Record<string, string> =>
    token === undefined ? {} : { authorization: `Bearer ${token}` };
  const mayOf = (name: string): boolean => {
    const caller = callers[name];
    return caller !== undefined && judgeAccess(caller, "vm.speak", { vmId: "vm-acme" }) === "yes";
  };
  const before: Record<"connect" | "ack" | "error", (stream: ReturnType<typeof dial>) => void> = {
    connect: () => {},
    ack: (stream) => stream.answer({ commandId: "c-1", stage: "result", success: true }),
    error: (stream) =>
      stream.send({ kind: "error", error: { code: "x", message: "y", details: {}, atMs: 0 } }),
  };
  const speech: Record<"event" | "heartbeat", (stream: ReturnType<typeof dial>) => void> = {
    event: (stream) =>
      stream.event("vm-acme", {
        poolId: "pool-a",
        type: "runner_registered",
        data: { runner_name: "the-runner-it-told" },
      }),
    heartbeat: (stream) => stream.beat("vm-acme", { poolId: "pool-a", migletState: "registering_runner" }),
  };

  it.each(Object.keys(before) as (keyof typeof before)[])("a stream that begins with %s", async (kind) => {
    for (const [name, token] of Object.entries(tokens)) {
      await using stream = dial(port(), withToken(token));
      before[kind](stream);
      stream.connect("vm-acme", { poolId: "pool-a" });
      expect((await stream.next("connect_ack")).reply.accepted, name).toBe(mayOf(name));
    }
  });

  it.each(Object.keys(speech) as (keyof typeof speech)[])("%s before connect", async (kind) => {
    const mark = { event: "the-runner-it-told", heartbeat: "registering_runner" }[kind];
    const seen = async (): Promise<string> => JSON.stringify((await lab.api("GET", "vms/vm-acme")).body);
    for (const [name, token] of Object.entries(tokens).filter(([name]) => !mayOf(name))) {
      await using stream = dial(port(), withToken(token));
      speech[kind](stream);
      expect((await stream.next("connect_ack")).reply.accepted, name).toBe(false);
    }
    expect(await seen()).not.toContain(mark);
    await using stream = dial(port(), withToken(tokens["vm-acme"]));
    speech[kind](stream);
    await waitFor("the VM's own word to count", async () => (await seen()).includes(mark));
    expect(accessTable["vm.speak"].vm).toBe("own");
  });
});
