import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { waitFor } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { dial } from "./dial.ts";
import { openTestListeners, type TestListeners } from "./open-test-listeners.ts";

let mig: TestListeners;
/** How many submissions of events fail before one is let through. */
let failing = 0;
let submissions = 0;
beforeAll(async () => {
  mig = await openTestListeners({
    flags: ["--dev"],
    desk: (real) => ({
      recordEvents: async (vmId, events) => {
        submissions += 1;
        if (failing > 0) {
          failing -= 1;
          throw new MigError("storage_unavailable", "the database is away", { retryAfterMs: 10 });
        }
        return real.recordEvents(vmId, events);
      },
    }),
  });
});
afterAll(() => mig[Symbol.asyncDispose]());

const stateOf = async (vmId: string) => mig.real.desk.findVm(vmId);

describe.each(["port", "grpcPort"] as const)("on the %s", (which) => {
  test("connect, command, answers, events, heartbeats", async () => {
    const vmId = `vm-${which.toLowerCase()}`;
    await using agent = dial(mig[which]);
    agent.connect(vmId, { incarnation: "i-1", migletState: "ready" });
    expect(await agent.next("connect_ack")).toMatchObject({
      reply: { accepted: true, protocolVersion: 1, ackedSeq: 0, heartbeatIntervalMs: 150 },
    });
    const { command } = await agent.next("command");
    expect(command).toMatchObject({
      type: "register_runner",
      parameters: { registration_token: `token-for-${vmId}` },
    });
    agent.answer({ commandId: command.id, stage: "received", success: true });
    agent.event(vmId, {
      type: "runner_registered",
      seq: 1,
      incarnation: "i-1",
      data: { command_id: command.id },
    });
    agent.answer({ commandId: command.id, stage: "result", success: true, result: { runner_name: "r" } });
    expect(await agent.next("event_ack")).toMatchObject({
      ack: { incarnation: "i-1", upToSeq: 1, rejected: [] },
    });
    agent.beat(vmId);
    expect(await agent.next("heartbeat_ack")).toMatchObject({
      reply: { nextIntervalMs: expect.any(Number) },
    });
    await waitFor("the VM to be idle", async () => (await stateOf(vmId)).state === "idle");
  });
});

test("a message may come before connect", async () => {
  await using agent = dial(mig.grpcPort);
  agent.beat("vm-early", { migletState: "ready" });
  agent.answer({ commandId: "from-an-earlier-stream", success: true });
  agent.connect("vm-early", { protocolVersion: 0 });
  await agent.next("connect_ack");
  await agent.next("command");
  expect((await stateOf("vm-early")).migletState).toBe("ready");
});

test("an agent from before MIG hears nothing that it does not know", async () => {
  await using agent = dial(mig.grpcPort);
  agent.connect("vm-old", { protocolVersion: 0 });
  await agent.next("command");
  agent.event("vm-old", { type: "vm_started" });
  agent.beat("vm-old");
  await waitFor("the heartbeat", async () => (await stateOf("vm-old")).lastHeartbeatMs !== null);
  expect(new Set(agent.heard.map(({ kind }) => kind))).toEqual(new Set(["connect_ack", "command"]));
});

test("connect may be repeated; the newer stream of a VM wins and the older is told", async () => {
  await using first = dial(mig.grpcPort);
  first.connect("vm-twice");
  first.connect("vm-twice");
  expect((await first.next("connect_ack")).reply.epoch).toBe(1);
  expect((await first.next("connect_ack")).reply.epoch).toBe(2);
  await using second = dial(mig.grpcPort);
  second.connect("vm-twice");
  await second.next("connect_ack");
  expect(await first.next("go_away")).toMatchObject({ goAway: { reason: "superseded" } });
  expect((await first.ended).code).toBe(0);
  expect(mig.real.registry.get("vm-twice")?.epoch).toBe(3);
  expect(await second.isOpenAfterMs(100)).toBe(true);
});

test("a superseded stream of an agent from before MIG is not ended: it would come back at once", async () => {
  await using first = dial(mig.grpcPort);
  first.connect("vm-old-twice", { protocolVersion: 0 });
  await first.next("connect_ack");
  await using second = dial(mig.grpcPort);
  second.connect("vm-old-twice", { protocolVersion: 0 });
  await second.next("connect_ack");
  expect(await first.isOpenAfterMs(300)).toBe(true);
});

test("what a stream says about another VM is refused and goes nowhere", async () => {
  await using agent = dial(mig.grpcPort);
  agent.connect("vm-mine");
  await agent.next("connect_ack");
  agent.beat("vm-yours");
  agent.event("vm-yours", { type: "vm_terminated" });
  agent.connect("vm-yours");
  for (const _ of [1, 2, 3])
    expect(await agent.next("error")).toMatchObject({ error: { code: "vm_mismatch" } });
  await expect(stateOf("vm-yours")).rejects.toThrow(MigError);
});

test.each(["..", "../../etc", "a/b", "", "x".repeat(10_000), "a\0b"])(
  "the vm_id %j opens nothing",
  async (vmId) => {
    await using agent = dial(mig.grpcPort);
    agent.connect(vmId);
    expect(await agent.next("connect_ack")).toMatchObject({ reply: { accepted: false } });
    expect((await agent.ended).code).toBe(3);
  },
);

test("bytes that are no message end that stream and no other", async () => {
  await using good = dial(mig.grpcPort);
  good.connect("vm-good");
  await good.next("connect_ack");
  await using bad = dial(mig.grpcPort);
  bad.connect("vm-bad");
  await bad.next("connect_ack");
  bad.sendBytes(Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]));
  expect((await bad.ended).code).toBe(3);
  expect(mig.real.registry.get("vm-bad")).toBeUndefined();
  expect(await good.isOpenAfterMs(50)).toBe(true);
});

test("ten thousand events arrive in order, once each, in few submissions", async () => {
  await using agent = dial(mig.grpcPort);
  agent.connect("vm-busy", { incarnation: "i-1" });
  await agent.next("connect_ack");
  submissions = 0;
  for (let seq = 1; seq <= 10_000; seq += 1) agent.event("vm-busy", { seq, incarnation: "i-1" });
  await waitFor("the last acknowledgement", () =>
    agent.heard.some((one) => one.kind === "event_ack" && one.ack.upToSeq === 10_000),
  );
  const acks = agent.heard.flatMap((one) => (one.kind === "event_ack" ? [one.ack] : []));
  expect(acks.every(({ rejected }) => rejected.length === 0)).toBe(true);
  expect(submissions).toBeLessThan(1_000);
});

test("while the database is away events wait, and are acknowledged when it is back", async () => {
  await using agent = dial(mig.grpcPort);
  agent.connect("vm-patient", { incarnation: "i-1" });
  await agent.next("connect_ack");
  failing = 3;
  for (const seq of [1, 2, 3]) agent.event("vm-patient", { seq, incarnation: "i-1" });
  expect(await agent.next("event_ack")).toMatchObject({ ack: { upToSeq: expect.any(Number), rejected: [] } });
  expect(failing).toBe(0);
  await waitFor("all of them", () =>
    agent.heard.some((one) => one.kind === "event_ack" && one.ack.upToSeq === 3),
  );
});

test("an agent that does not read is let go", async () => {
  await using agent = dial(mig.grpcPort);
  agent.connect("vm-deaf");
  await agent.next("connect_ack");
  agent.stopReading();
  const session = await waitFor("the session", () => mig.real.registry.get("vm-deaf"));
  for (let i = 0; i < 20_000 && mig.real.registry.get("vm-deaf") === session; i += 1) {
    agent.beat("vm-yours"); // each brings an error notice
    if (i % 500 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await waitFor("the session to end", () => mig.real.registry.get("vm-deaf") === undefined);
});

test("a half-closed stream is ended from both sides and its session is gone", async () => {
  await using agent = dial(mig.grpcPort);
  agent.connect("vm-leaving");
  await agent.next("connect_ack");
  agent.halfClose();
  expect((await agent.ended).code).toBe(0);
  await waitFor("the session to end", () => mig.real.registry.get("vm-leaving") === undefined);
});

test("sample mode keeps what came by stream under names of its own", async () => {
  await using sample = await openTestListeners();
  await using agent = dial(sample.grpcPort);
  agent.connect("vm-files");
  agent.event("vm-files", { type: "vm_started" });
  agent.beat("vm-files");
  const names = await waitFor("two files", async () => {
    const found = await readdir(join(sample.dataDir, "vm-files"));
    return found.length === 2 ? found.sort() : undefined;
  });
  expect(names[0]).toMatch(/^grpc-event-vm_started-\d{8}-\d{6}\.\d{3}\.json$/);
  expect(names[1]).toMatch(/^grpc-heartbeat-\d{8}-\d{6}\.\d{3}\.json$/);
});

test("on shutdown streams are sent away, held requests answered, and both ports closed", async () => {
  await using own = await openTestListeners();
  await using agent = dial(own.port);
  agent.connect("vm-1");
  await agent.next("connect_ack");
  await using old = dial(own.port);
  old.connect("vm-2", { protocolVersion: 0 });
  await old.next("connect_ack");
  const held = fetch(`${own.url}/api/v1/vms/vm-3/commands?wait=20s`);
  await waitFor("the poll to be held", () => own.real.registry.get("vm-3"));
  own.stop.abort();
  const startedMs = performance.now();
  await own.close(3_000);
  expect(performance.now() - startedMs).toBeLessThan(3_000);
  expect((await held).status).toBe(200);
  expect(await agent.next("go_away")).toMatchObject({ goAway: { reason: "shutting_down" } });
  await agent.ended;
  await old.ended;
  await expect(fetch(`${own.url}/health`)).rejects.toThrow();
});
