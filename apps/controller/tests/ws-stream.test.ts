import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { waitFor } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { afterAll, beforeAll, expect, test } from "vitest";
import { dial } from "./dial.ts";
import { dialWs } from "./dial-ws.ts";
import { openTestListeners, type TestListeners } from "./open-test-listeners.ts";

let mig: TestListeners;
let failing = 0;
beforeAll(async () => {
  mig = await openTestListeners({
    flags: ["--dev"],
    desk: (real) => ({
      recordEvents: async (vmId, events) => {
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

const at = (vmId: string): string => `${mig.url}/api/v1/vms/${vmId}/commands/ws`;
const stateOf = async (vmId: string) => mig.real.desk.findVm(vmId);

test("connect, command, answers, events and heartbeats on one socket", async () => {
  await using agent = await dialWs(at("vm-1"));
  agent.connect("vm-1", { incarnation: "i-1", miglet_state: "ready" });
  expect(await agent.next("connect_ack")).toMatchObject({
    accepted: true,
    protocol_version: 1,
    acked_seq: 0,
    heartbeat_interval_ms: 150,
  });
  const command = await agent.next("command");
  expect(command).toMatchObject({
    type: "register_runner",
    command: "register_runner",
    parameters: { registration_token: "token-for-vm-1" },
  });
  agent.say({ kind: "ack", command_id: command["id"], stage: "received", success: true });
  agent.say([
    {
      kind: "event",
      type: "runner_registered",
      seq: 1,
      incarnation: "i-1",
      event_id: "e-1",
      command_id: command["id"],
    },
    { kind: "event", type: "error", seq: 2, incarnation: "i-1", event_id: "e-2", message: "m" },
  ]);
  await waitFor("both events", () => agent.heard.some((one) => one["up_to_seq"] === 2));
  agent.say({ kind: "ack", command_id: command["id"], success: true, result: { runner_name: "r" } });
  await waitFor("the runner", async () => (await stateOf("vm-1")).runnerName === "r");
  agent.say({ kind: "heartbeat", miglet_state: "idle", incarnation: "i-1" });
  expect(await agent.next("heartbeat_ack")).toMatchObject({ next_interval_ms: expect.any(Number) });
  await waitFor("the VM to be idle", async () => (await stateOf("vm-1")).state === "idle");
  expect((await stateOf("vm-1")).channel).toBe("websocket");
});

test("the newest of all channels wins, and the older one is told", async () => {
  await using first = await dialWs(at("vm-twice"));
  first.connect("vm-twice");
  first.connect("vm-twice");
  expect((await first.next("connect_ack"))["epoch"]).toBe(1);
  expect((await first.next("connect_ack"))["epoch"]).toBe(2);
  await using second = dial(mig.port);
  second.connect("vm-twice");
  await second.next("connect_ack");
  expect(await first.next("go_away")).toMatchObject({ reason: "superseded" });
  expect(await first.ended).toBe(4409);
  await using third = await dialWs(at("vm-twice"));
  third.connect("vm-twice");
  await third.next("connect_ack");
  expect(await second.next("go_away")).toMatchObject({ goAway: { reason: "superseded" } });
});

test("ten thousand events in arrays arrive in order, once each; with the database away they wait", async () => {
  await using agent = await dialWs(at("vm-busy"));
  agent.connect("vm-busy", { incarnation: "i-1" });
  await agent.next("connect_ack");
  failing = 3;
  for (let from = 1; from <= 10_000; from += 500) {
    agent.say(
      Array.from({ length: 500 }, (_, i) => ({
        kind: "event",
        type: "job_heartbeat",
        seq: from + i,
        incarnation: "i-1",
      })),
    );
  }
  await waitFor(
    "the last acknowledgement",
    () => agent.heard.some((one) => one["kind"] === "event_ack" && one["up_to_seq"] === 10_000),
    { timeoutMs: 30_000 },
  );
  const acks = agent.heard.filter((one) => one["kind"] === "event_ack");
  expect(acks.every((ack) => (ack["rejected"] as unknown[]).length === 0)).toBe(true);
  expect(failing).toBe(0);
});

test("what a socket says about another VM is refused and goes nowhere", async () => {
  await using agent = await dialWs(at("vm-mine"));
  agent.connect("vm-mine");
  await agent.next("connect_ack");
  agent.say({ kind: "heartbeat", vm_id: "vm-yours" });
  agent.say({ kind: "event", type: "vm_terminated", vm_id: "vm-yours" });
  for (const _ of [1, 2]) expect(await agent.next("error")).toMatchObject({ code: "vm_mismatch" });
  agent.connect("vm-yours");
  expect(await agent.next("connect_ack")).toMatchObject({ accepted: false });
  expect(await agent.ended).toBe(4403);
  await expect(stateOf("vm-yours")).rejects.toThrow(MigError);
});

test("sample mode keeps what came by socket, and on shutdown sockets are sent away", async () => {
  const own = await openTestListeners();
  await using _ = own;
  await using agent = await dialWs(`${own.url}/api/v1/vms/vm-1/commands`);
  agent.connect("vm-1");
  await agent.next("connect_ack");
  agent.say({ kind: "event", type: "vm_started" });
  agent.say({ kind: "heartbeat" });
  const names = await waitFor("two files", async () => {
    const found = await readdir(join(own.dataDir, "vm-1"));
    return found.length === 2 ? found.sort() : undefined;
  });
  expect(names.map((name) => name.replace(/-\d.*$/, ""))).toEqual(["event-vm_started", "heartbeat"]);
  await using seed = await dialWs(`${own.url}/api/v1/vms/vm-2/commands`, { isSeed: true });
  const startedMs = performance.now();
  await own.close(3_000);
  expect(performance.now() - startedMs).toBeLessThan(2_500);
  expect(await agent.next("go_away")).toMatchObject({
    reason: "shutting_down",
    reconnect_after_ms: expect.any(Number),
  });
  expect([await agent.ended, await seed.ended]).toEqual([1001, 1001]);
});
