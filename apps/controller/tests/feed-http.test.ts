import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { waitFor } from "@mig/kit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { FeedItem } from "../src/feed/item.ts";
import { FeedWriter } from "../src/listen/feed/feed-writer.ts";
import { type DialledSse, dialSse } from "./dial-sse.ts";
import { type IdentityLab, openIdentityLab } from "./identity-lab.ts";
import { call } from "./open-test-listeners.ts";

/** GET /api/v1/feed of a whole controller. Who may open it at all: access-matrix.test.ts; its order: feed-cutover.test.ts. */
let lab: IdentityLab;
let ofAll: string;
let ofAcme: string;
const tokens = new Map<string, string>();
const stops: (() => Promise<void>)[] = [];
beforeAll(async () => {
  lab = await openIdentityLab({
    flags: ["--connection-timeout", "500ms", "--feed-streams-per-caller", "3", "--feed-streams", "6"],
    atEnd: (stop) => void stops.push(stop),
  });
  ofAll = await lab.key({ role: "viewer" });
  ofAcme = await lab.key({ role: "viewer", orgs: ["acme"] });
  for (const [vmId, poolId] of [
    ["vm-acme", "pool-a"],
    ["vm-other", "pool-b"],
  ] as const) {
    const { access_token: token } = (await lab.machine(vmId).join(await lab.joinToken({ pool_id: poolId })))
      .body;
    tokens.set(vmId, token);
    await tell(vmId, "vm_started");
  }
});
afterAll(async () => {
  for (const stop of stops) await stop();
});

let seq = 0;
async function tell(vmId: string, type: string, data: object = {}): Promise<void> {
  seq += 1;
  const about = { type, vm_id: vmId, event_id: `e-${seq}`, timestamp: new Date().toISOString() };
  const event = { ...about, ...data };
  const headers = { authorization: `Bearer ${tokens.get(vmId)}` };
  expect((await call(`${lab.url}/api/v1/vms/${vmId}/events`, { json: event, headers })).status).toBe(200);
}
const order = async (vmId: string, level = "debug"): Promise<string> =>
  (await lab.api("POST", `vms/${vmId}/commands`, { type: "set_log_level", parameters: { level } })).body.id;
const watch = (query = "", key = ofAll, more: Record<string, string> = {}): Promise<DialledSse> =>
  dialSse(`${lab.url}/api/v1/feed${query}`, { authorization: `Bearer ${key}`, ...more });
const items = (stream: DialledSse) =>
  stream.events().filter(({ event }) => ["vm", "command", "event", "fleet"].includes(event));

test("tells of VMs, commands, events and orders for many, and goes on after a cursor", async () => {
  await using stream = await watch();
  const { id: from } = await stream.next("hello");
  expect(stream.headers["content-type"]).toContain("text/event-stream");
  await tell("vm-acme", "runner_registered", { runner_name: "r-1" });
  expect((await stream.next("vm")).data).toMatchObject({
    ...{ type: "vm", vm_id: "vm-acme", pool_id: "pool-a", org_id: "acme" },
    vm: { state: "idle", before: { state: "initializing" } },
  });
  expect((await stream.next("event")).data.event).toMatchObject({
    ...{ type: "runner_registered", seq: null, payload: { runner_name: "r-1" } },
  });
  const id = await order("vm-acme");
  expect((await stream.next("command")).data).toMatchObject({
    vm_id: "vm-acme",
    command: { id, type: "set_log_level", state: "pending" },
  });
  await lab.api("POST", "fleet/commands", { selector: { vm_ids: ["vm-acme"] }, type: "drain" });
  expect((await stream.next("fleet")).data.fleet).toMatchObject({ type: "drain", progress: { total: 1 } });

  // An order is told as it is when it is read.
  const all = items(stream).filter(({ event }) => event !== "fleet");
  for (const header of [false, true]) {
    await using again = await watch(
      `?types=vm,command,event&after=${header ? "zzzz" : from}`,
      ofAll,
      header ? { "last-event-id": String(from) } : {},
    );
    await waitFor("the same", () => items(again).length >= all.length);
    expect(items(again).slice(0, all.length)).toEqual(all);
  }
  await using rest = await watch(`?after=${all[1]?.id}&types=command,fleet&vm_id=vm-acme`);
  await rest.next("command");
  expect(items(rest)[0]).toEqual(all.filter(({ event }) => event === "command")[0]);
});

test("who has some organizations hears of those alone; a filter asks for less and never for more", async () => {
  await using stream = await watch("", ofAcme);
  await using theirs = await watch("?org_id=other", ofAcme);
  await using pool = await watch("?pool_id=pool-b&types=event");
  for (const one of [stream, theirs, pool]) await one.next("hello");
  await tell("vm-other", "runner_registered", { runner_name: "r-2" });
  await order("vm-other");
  // An order for both organizations is not whose has only one of them.
  await lab.api("POST", "fleet/commands", {
    selector: { vm_ids: ["vm-acme", "vm-other"] },
    type: "set_log_level",
    parameters: { level: "warn" },
  });
  await tell("vm-acme", "heartbeat_note");
  await waitFor("the last", () => items(stream).some(({ data }) => data.event?.type === "heartbeat_note"));
  expect(stream.text()).not.toContain("other");
  expect(items(theirs)).toEqual([]);
  expect((await pool.next("event")).data).toMatchObject({ vm_id: "vm-other" });
  expect(items(pool)).toHaveLength(1);
});

test.each([
  ["after=nonsense", "cursor"],
  ["types=vms", "types is some of"],
  ["vm_id=a%20b", "vm_id"],
])("%s is refused", async (query, problem) => {
  const headers = { authorization: `Bearer ${ofAll}` };
  const reply = await call(`${lab.url}/api/v1/feed?${query}`, { headers });
  expect([reply.status, reply.body.error.message]).toEqual([400, expect.stringContaining(problem)]);
});

test("a cursor of another database: reset, and on from now", async () => {
  const cursor = Buffer.from("feed:999999.0").toString("base64url");
  await using stream = await watch(`?after=${cursor}`);
  expect((await stream.next("reset")).data).toMatchObject({
    ...{ reason: "unknown", message: expect.stringContaining("GET /api/v1/vms") },
  });
  await tell("vm-acme", "after_reset");
  await stream.next("event");
});

test("a quiet feed shows that it lives, and its cursor grows older no more", async () => {
  await using stream = await watch("?types=fleet");
  const { id: from } = await stream.next("hello");
  await tell("vm-acme", "not_wanted");
  const newest = (): string | undefined => /: ping\nid: (\S+)\n\n$/.exec(stream.text())?.[1];
  await waitFor("a newer cursor", () => newest() !== undefined && newest() !== from);
});

describe("feeds are bounded", () => {
  test("by caller with 429, by replica with 503, and a closed one makes room", async () => {
    const open: DialledSse[] = [];
    for (let i = 0; i < 3; i += 1) open.push(await watch());
    const headers = { authorization: `Bearer ${ofAll}` };
    const more = await call(`${lab.url}/api/v1/feed`, { headers });
    expect([more.status, more.headers.get("retry-after")]).toEqual([429, "5"]);
    for (let i = 0; i < 3; i += 1) open.push(await watch("", ofAcme));
    const full = await call(`${lab.url}/api/v1/feed`, {
      headers: { authorization: `Bearer ${await lab.key({ role: "viewer" })}` },
    });
    expect([full.status, full.body.error.code]).toEqual([503, "overloaded"]);
    for (const one of open) await one[Symbol.asyncDispose]();
    await waitFor("room", async () => (await call(`${lab.url}/api/v1/feed`, { headers })).status === 200);
  });
});

test("a revoked key ends its feed, and tells where to go on with another", async () => {
  const made = (await lab.api("POST", "api-keys", { name: "gone", role: "viewer" })).body;
  await using stream = await watch("", made.key);
  await stream.next("hello");
  expect((await lab.api("DELETE", `api-keys/${made.id}`)).status).toBeLessThan(300);
  const { data } = await stream.next("go_away");
  expect(data.reason).toBe("unauthenticated");
  await stream.ended;
  await using next = await watch(`?after=${data.cursor}`);
  await next.next("hello");
});

test("who takes nothing is told last where to go on, and reads it when it reads again", async () => {
  const next = (row: number) => ({ row, n: 0 });
  const item = (row: number): FeedItem => ({
    ...{ kind: "vm", vmId: "vm-1", poolId: "p", orgId: "o", atMs: 0 },
    ...{ body: { filler: "x".repeat(100_000) }, next: next(row) },
  });
  let sent = 0;
  let isTaken = true;
  const server = createServer((_, response) => {
    const writer = new FeedWriter(response, { headers: {}, takenWithinMs: 50 });
    writer.begin(next(1), undefined);
    const fill = async (): Promise<void> => {
      while (isTaken) {
        while (writer.send(item(sent + 2))) sent += 1;
        isTaken = await writer.taken();
      }
      writer.end("dropped", "slow_consumer", next(sent + 1));
    };
    void fill();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    await using stream = await dialSse(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
    stream.pause();
    await waitFor("the end of its patience", () => !isTaken);
    stream.resume();
    const { data, id } = await stream.next("dropped");
    expect(data).toMatchObject({ reason: "slow_consumer", cursor: id });
    expect(id).toBe(items(stream).at(-1)?.id);
    expect(items(stream)).toHaveLength(sent);
    await stream.ended;
  } finally {
    server.close();
  }
});

test("a controller that stops sends feeds away with a time and a cursor", async () => {
  await using stream = await watch();
  await stream.next("hello");
  const stopping = lab.controllers[0]?.stop();
  const { data, id } = await stream.next("go_away");
  expect(data).toMatchObject({ reason: "shutting_down", cursor: id });
  expect(stream.text()).toMatch(/retry: \d{4}\n\nevent: go_away/);
  await stream.ended;
  await stopping;
});
