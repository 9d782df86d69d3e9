import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog } from "@mig/kit";
import type { EventType } from "@mig/protocol";
import { afterEach, beforeEach, expect, test } from "vitest";
import { lockDirectory } from "./lock.ts";
import { type Memory, openMemory } from "./open-memory.ts";

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "mig-said-"));
});
const opened: Memory[] = [];
afterEach(async () => {
  for (const memory of opened.splice(0)) await memory.close();
  await rm(root, { recursive: true, force: true });
});

/** Each is a process; the ones before it were killed. */
const open = async (): Promise<Memory> => {
  const memory = await openMemory({ directory: root, bootId: "11111111", log: silentLog });
  opened.push(memory);
  return memory;
};
const tell = (memory: Memory, type: EventType, isKilledBeforeTheEvent = false) =>
  memory.spool.append(
    { type, vmId: "vm-1", poolId: "p", incarnation: "i", occurredAtMs: 1, data: {} },
    async (seq) => {
      await memory.said.note(type, {}, seq);
      if (isKilledBeforeTheEvent) throw new Error("kill -9");
    },
  );

test("an event whose process died before the state was saved is known as told, also when it was acknowledged", async () => {
  const first = await open();
  await tell(first, "job_completed");
  const second = await open();
  expect(second.said.find("job_completed", {})).toBe(1);
  await second.spool.acknowledge(1);
  expect((await open()).said.find("job_completed", {})).toBe(1);
});

test("a number that was noted and never written is not taken for the event, nor is the next event under it", async () => {
  const first = await open();
  await expect(tell(first, "job_completed", true)).rejects.toThrow("kill -9");
  const second = await open();
  expect(second.said.find("job_completed", {})).toBeUndefined();
  expect((await tell(second, "runner_registered")).seq).toBe(1);
  expect(second.said.find("job_completed", {})).toBeUndefined();
});

test("the next runner tells its own job; identified, a job is told a second time", async () => {
  const memory = await open();
  await tell(memory, "job_started");
  expect(memory.said.find("job_started", {})).toBe(1);
  expect(memory.said.find("job_started", { run_id: "7" })).toBeUndefined();
  expect(memory.said.find("job_heartbeat", {})).toBeUndefined();
  await memory.state.change({ said: undefined });
  expect(memory.said.find("job_started", {})).toBeUndefined();
});

test("one state directory has one agent at a time", async () => {
  const first = await lockDirectory(root);
  await expect(lockDirectory(root)).rejects.toMatchObject({ code: "state_unwritable" });
  await first.release();
  await (await lockDirectory(root)).release();
});
