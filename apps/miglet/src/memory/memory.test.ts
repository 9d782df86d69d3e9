import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog } from "@mig/kit";
import { limits } from "@mig/protocol";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openCommandJournal } from "./command-journal.ts";
import { type Memory, openMemory } from "./open-memory.ts";

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "mig-memory-"));
});
afterEach(() => rm(root, { recursive: true, force: true }));

const open = (bootId = "11111111-aaaa"): Promise<Memory> =>
  openMemory({ directory: join(root, "state"), bootId, log: silentLog });
const event = (memory: Memory) => ({
  type: "job_started",
  vmId: "vm-1",
  poolId: "p",
  incarnation: memory.state.read().incarnation,
  occurredAtMs: 1,
  data: {},
});

test("the same boot resumes: same incarnation, state, runner, job and numbers", async () => {
  const first = await open();
  expect(first.resumed).toBe(false);
  const runner = {
    pid: 4242,
    startTicks: 99,
    bootId: "b",
    name: "r",
    labels: ["x"],
    dir: "/opt/runner",
    output: { path: "/o", offset: 7 },
    hooks: { path: "/h", offset: 9 },
    listened: true,
  };
  const job = { jobId: "build", runId: "7", startedAtMs: 1000, jobName: "a" };
  await Promise.all([
    first.state.change({ state: "job_running", runner, job }),
    first.state.change({ draining: true }),
  ]);
  await first.spool.append(event(first));
  const second = await open();
  expect(second.resumed).toBe(true);
  expect(second.state.read()).toEqual({
    ...first.state.read(),
    state: "job_running",
    draining: true,
    runner,
    job,
  });
  expect((await second.spool.append(event(second))).seq).toBe(2);
  await second.state.change({ job: undefined });
  expect(second.state.read()).not.toHaveProperty("job");
  await first.close();
  await second.close();
});

test("another boot is another incarnation of the same install, and undelivered events of the old one are kept", async () => {
  const first = await open();
  await first.spool.append(event(first));
  await first.close();
  const second = await open("22222222-bbbb");
  expect(second.resumed).toBe(false);
  expect(second.state.read()).toMatchObject({
    installId: first.state.read().installId,
    state: "initializing",
  });
  expect(second.state.read().incarnation).not.toBe(first.state.read().incarnation);
  expect(second.spool.lastSeq()).toBe(0);
  expect(second.leftovers.map((one) => one.pending())).toEqual([1]);
  await second.leftovers[0]?.acknowledge(1);
  await second.close();
  const third = await open("22222222-bbbb");
  expect(third.leftovers).toEqual([]);
  await third.close();
});

test("a state file that cannot be understood is kept aside, reported, and begins another incarnation", async () => {
  const first = await open();
  await first.close();
  for (const broken of ["{ torn", '{"version":99}', "", "null"]) {
    await writeFile(join(root, "state", "state.json"), broken);
    const next = await open();
    expect(next.resumed).toBe(false);
    expect(next.problems).toMatchObject([{ code: "state_broken" }]);
    expect(next.state.read().incarnation).not.toBe(first.state.read().incarnation);
    await next.close();
  }
  const asides = (await readdir(join(root, "state"))).filter((name) => name.includes(".broken-"));
  expect(asides.sort()).toEqual([
    "state.json.broken-1",
    "state.json.broken-2",
    "state.json.broken-3",
    "state.json.broken-4",
  ]);
});

test("a spool that is gone while the state file is there begins another incarnation", async () => {
  const first = await open();
  await first.close();
  await rm(join(root, "state", "spool"), { recursive: true });
  const second = await open();
  expect(second.state.read().incarnation).not.toBe(first.state.read().incarnation);
  await second.close();
});

test("the journal remembers the last thousand commands, and unfinished ones for ever", async () => {
  const path = join(root, "commands.jsonl");
  const journal = await openCommandJournal(path, silentLog);
  await journal.received("open", "drain");
  for (let n = 0; n < 1100; n += 1) {
    const id = `c-${n}`;
    void journal.received(id, "set_log_level");
    await journal.done(id, "set_log_level", { commandId: id, success: true, stage: "result", result: { n } });
  }
  await journal.close();
  await writeFile(path, `${await readFile(path, "utf8")}{"id":"torn`);
  const again = await openCommandJournal(path, silentLog);
  expect(again.unfinished()).toEqual([{ id: "open", type: "drain" }]);
  expect(again.find("c-1099")?.answer).toEqual({
    commandId: "c-1099",
    success: true,
    stage: "result",
    result: { n: 1099 },
  });
  expect(again.find("c-5")).toBeUndefined();
  expect((await readFile(path, "utf8")).split("\n").length).toBeLessThanOrEqual(limits.commandJournalMax + 1);
  await again.close();
});
