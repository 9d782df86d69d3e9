import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { waitFor } from "@mig/kit";
import {
  AckAnswer,
  CommandsAnswer,
  CommandView,
  EventAnswer,
  GrantAnswer,
  HeartbeatAnswer,
  ReleaseAnswer,
  type TSchema,
  VmsAnswer,
  VmView,
} from "@mig/protocol/schemas";
import Value from "typebox/value";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { call, openTestListeners, type TestListeners } from "./open-test-listeners.ts";

let mig: TestListeners;
beforeAll(async () => {
  mig = await openTestListeners();
});
afterAll(() => mig[Symbol.asyncDispose]());

const vm = "/api/v1/vms/vm-123";
const heartbeat = {
  type: "job_heartbeat",
  timestamp: "2026-11-20T23:12:07.976860645Z",
  vm_id: "vm-123",
  pool_id: "test-pool",
  miglet_state: "connecting",
  vm_health: { cpu_load: 0.1, memory_total: 7 },
  runner_state: "idle",
};

/** Every call of seeds 000 ("API Endpoints") and 002 ("Test Endpoints"), with the keys that the seeds show. */
const calls: [string, string, unknown, Record<string, unknown>, TSchema?][] = [
  ["GET", "/health", undefined, { status: "ok" }],
  [
    "POST",
    `${vm}/events`,
    { type: "vm_started", vm_id: "vm-123", pool_id: "test-pool", version: "dev" },
    {
      status: "acknowledged",
      acknowledged: true,
      vm_id: "vm-123",
      pool_id: "test-pool",
      message: expect.any(String),
      timestamp: expect.any(String),
    },
    EventAnswer,
  ],
  [
    "POST",
    `${vm}/events`,
    { type: "job_started", job_id: "1", run_id: "2" },
    { status: "acknowledged", acknowledged: true },
    EventAnswer,
  ],
  [
    "POST",
    `${vm}/events`,
    { type: "job_completed", job_id: "1", run_id: "2", success: false },
    { acknowledged: true },
    EventAnswer,
  ],
  [
    "POST",
    `${vm}/events`,
    { type: "runner_crashed", metadata: { error: "exit status 1" } },
    { acknowledged: true },
    EventAnswer,
  ],
  ["POST", `/${vm}/events`, { type: "error", message: "//api is /api" }, { acknowledged: true }, EventAnswer],
  [
    "POST",
    `${vm}/heartbeat`,
    heartbeat,
    {
      status: "received",
      vm_id: "vm-123",
      message: "Heartbeat received",
      next_interval_ms: expect.any(Number),
    },
    HeartbeatAnswer,
  ],
  ["POST", `${vm}/heartbeat`, {}, { status: "received" }, HeartbeatAnswer],
  [
    "POST",
    "/api/v1/vms/vm-first-heartbeat/heartbeat",
    { ...heartbeat, vm_id: "vm-first-heartbeat" },
    { status: "received" },
    HeartbeatAnswer,
  ],
  [
    "POST",
    `${vm}/registration-token`,
    { org_id: "org", pool_id: "test-pool", runner_group: "default", labels: ["a"] },
    {
      registration_token: expect.any(String),
      expires_at: expect.any(String),
      runner_url: "https://github.com/testorg",
      runner_group: expect.any(String),
      labels: expect.any(Array),
    },
    GrantAnswer,
  ],
  [
    "POST",
    `${vm}/registration-token`,
    { labels: null },
    { registration_token: "token-for-vm-123" },
    GrantAnswer,
  ],
  ["POST", `${vm}/registration-token`, undefined, { registration_token: "token-for-vm-123" }, GrantAnswer],
  ["POST", `${vm}/runner/release`, undefined, { registration: "unknown" }, ReleaseAnswer],
  ["GET", "/api/v1/vms/vm-quiet/commands", undefined, { commands: [], vm_id: "vm-quiet" }, CommandsAnswer],
  [
    "GET",
    vm,
    undefined,
    {
      vm_id: "vm-123",
      pool_id: "test-pool",
      state: expect.any(String),
      reachability: "online",
      runner_state: expect.any(String),
      miglet_state: "connecting",
    },
    VmView,
  ],
  [
    "GET",
    "/api/v1/vms?limit=1",
    undefined,
    { vms: [expect.objectContaining({ vm_id: "vm-123" })], next_cursor: expect.any(String) },
    VmsAnswer,
  ],
];

test.each(calls)("%s %s %j", async (method, path, json, keys, schema) => {
  const reply = await call(`${mig.url}${path}`, json === undefined ? { method } : { method, json });
  expect(reply.body).toMatchObject(keys);
  expect(reply.status).toBe(200);
  expect(reply.headers.get("content-type")).toContain("application/json");
  if (schema !== undefined) expectShape(schema, reply.body);
});

describe("commands", () => {
  test("an order is answered 201, delivered once at a time, and acknowledged in two steps", async () => {
    const url = `${mig.url}/api/v1/vms/vm-told`;
    await call(`${url}/events`, { json: { type: "vm_started", pool_id: "p" } });
    const order = await call(`${url}/commands`, {
      json: { type: "set_log_level", parameters: { level: "debug" } },
    });
    expect(order.status).toBe(201);
    expect(order.body).toMatchObject({
      type: "set_log_level",
      command: "set_log_level",
      state: "pending",
      status: "pending",
    });
    expectShape(CommandView, order.body);

    const poll = await call(`${url}/commands`);
    expectShape(CommandsAnswer, poll.body);
    const [command] = poll.body.commands;
    expect(command).toMatchObject({
      id: order.body.id,
      type: "set_log_level",
      command: "set_log_level",
      parameters: { level: "debug" },
      created_at: expect.any(String),
    });

    const received = await call(`${url}/commands/${command.id}/ack`, {
      json: { stage: "received", success: true },
    });
    expect(received).toMatchObject({
      status: 200,
      body: { status: "acknowledged", command_state: "acknowledged" },
    });
    expectShape(AckAnswer, received.body);
    const result = await call(`${url}/commands/ack`, {
      json: { command_id: command.id, success: true, result: { level: "debug" } },
    });
    expect(result).toMatchObject({ status: 200, body: { command_state: "succeeded" } });
  });

  test("a held request is answered when a command comes, and a newer one takes its place", async () => {
    const url = `${mig.url}/api/v1/vms/vm-held`;
    await call(`${url}/heartbeat`, { json: {} });
    const first = call(`${url}/commands?wait=20s&incarnation=i-1&miglet_state=idle&protocol_version=1`);
    await waitFor("the poll to be held", () => mig.real.registry.get("vm-held"));
    const second = call(`${url}/commands?wait=20s&incarnation=i-1&miglet_state=idle&protocol_version=1`);
    expect(await first).toMatchObject({ status: 409, body: { error: { code: "superseded" } } });
    await call(`${url}/commands`, { json: { type: "drain" } });
    expect((await second).body.commands).toMatchObject([{ type: "drain" }]);
  });
});

test("events with numbers are acknowledged up to a number, and a gap is named", async () => {
  const url = `${mig.url}/api/v1/vms/vm-counted/events`;
  const one = (seq: number) => ({ type: "job_heartbeat", incarnation: "i-1", seq, event_id: `e-${seq}` });
  expect((await call(url, { json: { events: [one(1), one(2)] } })).body).toMatchObject({
    incarnation: "i-1",
    up_to_seq: 2,
    rejected: [],
  });
  const gap = await call(url, { json: { events: [one(2), one(4)] } });
  expect(gap.body).toMatchObject({
    up_to_seq: 2,
    rejected: [{ seq: 4, code: "out_of_order", permanent: false }],
  });
  expectShape(EventAnswer, gap.body);
});

test("sample mode keeps every message as a file below the VM's directory", async () => {
  await call(`${mig.url}/api/v1/vms/vm-files/events`, { json: { type: "vm_started" } });
  await call(`${mig.url}/api/v1/vms/vm-files/heartbeat`, { json: {} });
  await call(`${mig.url}/api/v1/vms/vm-files/registration-token`, { json: {} });
  const names = await waitFor("four files", async () => {
    const found = await readdir(join(mig.dataDir, "vm-files"));
    return found.length === 4 ? found.sort() : undefined;
  });
  expect(names.map((name) => name.replace(/-\d.*$/, ""))).toEqual([
    "event-vm_started",
    "heartbeat",
    "registration-token-request",
    "registration-token-response",
  ]);
});

test("both ports serve the whole API, which describes itself", async () => {
  const api = await call(`http://127.0.0.1:${mig.grpcPort}/api/v1/openapi.json`);
  expect(Object.keys(api.body.paths)).toEqual(
    expect.arrayContaining([
      "/health",
      "/api/v1/vms",
      "/api/v1/vms/{vm_id}/events",
      "/api/v1/vms/{vm_id}/commands/{command_id}/ack",
    ]),
  );
});

test("readiness follows the controller, liveness does not", async () => {
  const states = async () => (await call(`${mig.url}/readyz?verbose`)).body;
  expect(await states()).toEqual({
    status: "ok",
    checks: [
      { name: "lifecycle", state: "ok" },
      { name: "store", state: "ok" },
    ],
  });
  mig.health.isStoreReachable = false;
  expect(await call(`${mig.url}/readyz`)).toMatchObject({ status: 200, body: { status: "degraded" } });
  mig.health.isReady = false;
  expect(await call(`${mig.url}/readyz`)).toMatchObject({ status: 503, body: { status: "unavailable" } });
  expect((await call(`${mig.url}/livez`)).status).toBe(200);
  expect((await call(`${mig.url}/health`)).status).toBe(200);
  Object.assign(mig.health, { isReady: true, isStoreReachable: true });
});

/** Answers are written by hand; this holds them to what OpenAPI says. */
function expectShape(schema: TSchema, answer: unknown): void {
  expect(Value.Errors(schema, answer)).toEqual([]);
}

test.each([
  ["events", '{"type":"job_started","job_id":"1","run_id":"2"}', { status: "acknowledged" }],
  ["heartbeat", '{"runner_state":"idle"}', { status: "received", vm_id: "vm-curl" }],
  ["registration-token", "", { runner_group: "default", labels: ["self-hosted", "linux", "x64"] }],
])("curl -d without a content type works for %s in sample mode", async (path, body, answer) => {
  const response = await fetch(`${mig.url}/api/v1/vms/vm-curl/${path}`, {
    method: "POST",
    headers: { "content-type": "application/x-www-form-urlencoded" },
    body,
  });
  expect([response.status, await response.json()]).toEqual([200, expect.objectContaining(answer)]);
});
