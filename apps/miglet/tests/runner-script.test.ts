import { waitFor } from "@mig/kit";
import type { ScenarioName } from "@mig/sandbox";
import { afterEach, beforeEach, expect, test } from "vitest";
import { argumentsOf, readProcStat } from "../src/runner/proc.ts";
import { findListenerOf } from "../src/runner/runner-tree.ts";
import { drainRunner } from "../src/shutdown/drain.ts";
import { kinds, RunnerLab, stages } from "./runner-lab.ts";

/** runner.launcher = run.sh: the script around the Listener, whose own exit code says nothing (runner-contract §3.3). */
let lab: RunnerLab;
beforeEach(async () => {
  lab = await RunnerLab.open();
});
afterEach(() => lab.close());
const script = { launcher: "run.sh" as const };

test("a job is seen whole, its Worker two programs below what was started", async () => {
  const watched = await lab.listen({}, script);
  expect((await argumentsOf(watched.runner.record.pid)).join(" ")).toContain("run.sh");
  await lab.github.queueJob({ overrides: { durationMs: 400 } });
  await waitFor("the Worker", async () => (await watched.runner.checkFacts()).worker === "running");
  await lab.ended(watched);
  expect(kinds(watched)).toEqual([
    "listening",
    "job_assigned",
    "job_started",
    "job_finishing",
    "job_completed",
  ]);
  expect(watched.seen.at(-1)).toMatchObject({ result: "succeeded" });
  expect(watched.exits).toMatchObject([{ meaning: "done", exitCode: 0, ranJob: true }]);
});

test("the signal goes to the Listener and to nobody else", async () => {
  const watched = await lab.listen({}, script);
  const listener = (await findListenerOf(watched.runner.record.pid)) ?? 0;
  expect(listener).not.toBe(watched.runner.record.pid);
  expect(await drainRunner(watched.runner, "unknown", { interruptMs: 5000 })).toMatchObject({
    kind: "drained",
    proof: { listener: "interrupted" },
  });
  // It has told the script that it ended by itself, so the script has ended in its own words.
  expect(watched.exits).toMatchObject([{ meaning: "stopped", exitCode: 0 }]);
  expect(await readProcStat(listener)).toBeUndefined();
});

test.each<[ScenarioName, string, number]>([
  ["deprecated", "version_deprecated", 7],
  ["unknown-exit", "crashed", 134],
  ["deleted-before-start", "terminated_error", 1],
  ["conflict", "session_conflict", 5],
  ["restart-loop", "crashed", 2],
])("%s: %s, told by the script's fixed lines", async (scenario, meaning, exitCode) => {
  const options = { scenario, timeFactor: 0.002 };
  const watched = await lab.start(await lab.register(options, { ...script, timing: { relaunchesMax: 2 } }));
  await lab.ended(watched);
  expect(watched.exits).toMatchObject([{ meaning, exitCode, ranJob: false }]);
  expect(await lab.processes(/run\.sh|run-helper|Runner\.Listener/)).toEqual([]);
});

test("update: the script starts the Listener again, and the stages tell it", async () => {
  const watched = await lab.start(await lab.register({ scenario: "update" }, script));
  await waitFor("its second start", () => stages(watched).filter((one) => one === "listening").length === 2);
  expect(watched.exits).toEqual([]);
});

test("a Listener that outlives its script is watched to its end", async () => {
  const watched = await lab.listen({}, script);
  await lab.github.queueJob({ overrides: { durationMs: 500 } });
  await waitFor("the job", () => kinds(watched).includes("job_started"));
  // What SIGTERM to run.sh does: the Listener goes on and takes jobs (runner-contract §3.4).
  process.kill(watched.runner.record.pid, "SIGTERM");
  await waitFor(
    "the script's end",
    async () => (await readProcStat(watched.runner.record.pid)) === undefined,
  );
  expect(watched.runner.isAlive()).toBe(true);
  expect(watched.runner.isBusy()).toBe(true);
  await lab.ended(watched);
  expect(watched.seen.at(-1)).toMatchObject({ kind: "job_completed", result: "succeeded" });
  expect(watched.exits).toMatchObject([{ meaning: "done", ranJob: true }]);
});

test("it is found again after a restart of the agent, with its number noted or not", async () => {
  const watched = await lab.listen({}, script);
  await watched.runner.release();
  const { pid } = watched.runner.record;
  const unnoted = await lab.adopt(watched, { ...watched.runner.record, pid: process.pid, notes: {} });
  expect(unnoted.runner.isAlive()).toBe(true);
  expect(unnoted.runner.record.pid).toBe(pid);
  await lab.run({ overrides: { durationMs: 50 } }, unnoted);
  expect(unnoted.exits).toMatchObject([{ meaning: "done", exitCode: 0, ranJob: true }]);
});

test("between two Listeners of the script a drain leaves none behind", async () => {
  const options = { scenario: "restart-loop" as const, timeFactor: 0.2 };
  const watched = await lab.start(await lab.register(options, script));
  await waitFor("the pause", async () => (await lab.processes(/sleep|safe_sleep/)).length > 0);
  expect(await drainRunner(watched.runner, "unknown", { interruptMs: 5000 })).toMatchObject({
    kind: "drained",
  });
  expect(watched.exits).toMatchObject([{ meaning: "stopped" }]);
  expect(await lab.processes(/run\.sh|run-helper|Runner\.Listener/)).toEqual([]);
});
