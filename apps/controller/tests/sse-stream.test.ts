import { waitFor } from "@mig/kit";
import { afterAll, beforeAll, expect, test } from "vitest";
import { dialSse } from "./dial-sse.ts";
import { dialWs } from "./dial-ws.ts";
import { call, openTestListeners, type TestListeners } from "./open-test-listeners.ts";

let mig: TestListeners;
beforeAll(async () => {
  mig = await openTestListeners({ flags: ["--dev", "--connection-timeout", "100ms"] });
});
afterAll(() => mig[Symbol.asyncDispose]());

const vm = (vmId: string): string => `${mig.url}/api/v1/vms/${vmId}`;
const about = "protocol_version=1&incarnation=i-1&miglet_state=idle&pool_id=p&version=test";
const order = async (vmId: string, parameters: object = { level: "debug" }): Promise<string> =>
  (await call(`${vm(vmId)}/commands`, { json: { type: "set_log_level", parameters } })).body.id;

test("an agent is greeted, gets a command at a time, and answers by POST", async () => {
  await using stream = await dialSse(`${vm("vm-1")}/commands/stream?${about}`);
  expect(await stream.next("connect_ack")).toMatchObject({
    data: {
      accepted: true,
      epoch: expect.any(Number),
      protocol_version: 1,
      acked_seq: 0,
      heartbeat_interval_ms: 150,
    },
  });
  const first = await order("vm-1");
  expect((await stream.next("command")).id).toBe(first);
  // One that is under way is not superseded; one that waits would be.
  const ids = [first, await order("vm-1", { level: "info" })];
  expect(stream.events().filter(({ event }) => event === "command")).toHaveLength(1);
  await call(`${vm("vm-1")}/commands/${ids[0]}/ack`, { json: { stage: "received", success: true } });
  expect((await stream.next("command")).data).toMatchObject({ id: ids[1], attempt: 1 });
  expect(await mig.real.desk.findVm("vm-1")).toMatchObject({
    channel: "sse",
    poolId: "p",
    agentVersion: "test",
  });
});

test("a stream that has nothing to say shows that it is alive, and its end ends the session", async () => {
  const stream = await dialSse(`${vm("vm-quiet")}/commands/stream`);
  await waitFor("keep-alives", () => stream.text().split(": keep-alive\n\n").length > 3);
  expect(mig.real.registry.get("vm-quiet")?.channel).toBe("sse");
  await stream[Symbol.asyncDispose]();
  await waitFor("the session to end", () => mig.real.registry.get("vm-quiet") === undefined);
});

test("Last-Event-ID: what was seen does not come again at once, but it does when nobody acknowledges it", async () => {
  const url = `${vm("vm-back")}/commands/stream?${about}`;
  const id = await order("vm-back");
  {
    await using first = await dialSse(url);
    expect((await first.next("command")).id).toBe(id);
  }
  await using unaware = await dialSse(url);
  expect((await unaware.next("command")).data).toMatchObject({ id, attempt: 2 });
  await using aware = await dialSse(url, { "last-event-id": id });
  await aware.next("connect_ack");
  expect(aware.events().some(({ event }) => event === "command")).toBe(false);
  // It must be heard of meanwhile, or it would be written off.
  await waitFor("the command again", async () => {
    await call(`${vm("vm-back")}/heartbeat`, { json: { incarnation: "i-1" } });
    return aware.events().some(({ event }) => event === "command");
  });
  expect((await aware.next("command")).data).toMatchObject({ id, attempt: 3 });
});

test.each(["nobody-gave-this", "../..", "x".repeat(5_000)])(
  "a foreign Last-Event-ID %s does no harm",
  async (cursor) => {
    const id = await order("vm-foreign");
    await using stream = await dialSse(`${vm("vm-foreign")}/commands/stream?${about}`, {
      "last-event-id": cursor,
    });
    expect((await stream.next("command")).id).toBe(id);
    await call(`${vm("vm-foreign")}/commands/${id}/ack`, { json: { success: true } });
  },
);

test("the newest of all channels wins, and the older one is told", async () => {
  await using first = await dialSse(`${vm("vm-twice")}/commands/stream?${about}`);
  await first.next("connect_ack");
  await using second = await dialWs(`${vm("vm-twice")}/commands`);
  second.connect("vm-twice", { incarnation: "i-1" });
  await second.next("connect_ack");
  expect((await first.next("go_away")).data).toMatchObject({ reason: "superseded" });
  await first.ended;
  await using third = await dialSse(`${vm("vm-twice")}/commands/stream?${about}`);
  await third.next("connect_ack");
  expect(await second.next("go_away")).toMatchObject({ reason: "superseded" });
});

test("one that never reads is let go", async () => {
  await using deaf = await dialSse(`${vm("vm-deaf")}/commands/stream?${about}`);
  await deaf.next("connect_ack");
  deaf.pause();
  // More than the buffers of the kernel hold; the answers say that it got them.
  for (let i = 0; i < 400 && mig.real.registry.get("vm-deaf") !== undefined; i += 1) {
    const id = await order("vm-deaf", { level: "x".repeat(60_000) });
    expect(id).toBeDefined();
    await call(`${vm("vm-deaf")}/commands/${id}/ack`, { json: { success: true } });
  }
  await waitFor("the session to end", () => mig.real.registry.get("vm-deaf") === undefined);
});

test.each([
  ["no id", "/api/v1/vms/..%2f/commands/stream", 400],
  ["an id of 129", `/api/v1/vms/${"a".repeat(129)}/commands/stream`, 400],
  ["an incarnation that is none", "/api/v1/vms/vm-1/commands/stream?incarnation=../x", 400],
  ["a version that is none", "/api/v1/vms/vm-1/commands/stream?protocol_version=x", 400],
])("%s is refused before the stream begins", async (_, path, status) => {
  expect((await call(mig.url + path)).status).toBe(status);
});

test("on shutdown streams are sent away, each at a time of its own", async () => {
  await using own = await openTestListeners();
  await using agent = await dialSse(`${own.url}/api/v1/vms/vm-1/commands/stream?${about}`);
  await agent.next("connect_ack");
  await using seed = await dialSse(`${own.url}/api/v1/vms/vm-2/commands/stream`);
  await waitFor("the streams", () => own.real.registry.size === 2);
  own.stop.abort();
  const startedMs = performance.now();
  await own.close(3_000);
  expect(performance.now() - startedMs).toBeLessThan(2_500);
  expect((await agent.next("go_away")).data).toMatchObject({
    reason: "shutting_down",
    reconnect_after_ms: expect.any(Number),
  });
  await Promise.all([agent.ended, seed.ended]);
  expect(seed.text()).toMatch(/^retry: \d+\n\n$/);
});
