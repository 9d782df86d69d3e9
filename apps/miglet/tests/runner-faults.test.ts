import { execFileSync, spawn } from "node:child_process";
import { rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Clock, systemClock, waitFor } from "@mig/kit";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createLookParts } from "../src/runner/look-parts.ts";
import { endOrphanedConfig } from "../src/runner/orphaned-config.ts";
import type { NotedRecord } from "../src/runner/supervise.ts";
import { drainRunner } from "../src/shutdown/drain.ts";
import { isGone, isThere, kinds, RunnerLab, stages, type Watched } from "./runner-lab.ts";

/** Faults that were known of the supervision, each with the test that would have shown it. */
let lab: RunnerLab;
beforeEach(async () => {
  lab = await RunnerLab.open();
});
afterEach(() => lab.close());

const noted = (watched: Watched, key: string): NotedRecord | undefined =>
  watched.records.findLast(({ notes }) => notes?.[key] !== undefined);

describe("(a) an agent restarted during the relaunch pause goes on with the relaunch", () => {
  test("after code 2, and the cap goes on counting", async () => {
    const settings = await lab.register({ scenario: "restart-loop" }, { timing: { relaunchMs: 60_000 } });
    const watched = await lab.start(settings);
    const record = await waitFor("the pause", () => noted(watched, "relaunch_exit_code"));
    await watched.runner.release();
    expect(watched.exits).toEqual([]);
    // What made it fail is over: the next start will do.
    await rm(join(lab.dir, "FAKE_SCENARIO.json"));
    const soon = { ...settings, timing: { ...settings.timing, relaunchMs: 20 } };
    const again = await lab.adopt({ settings: soon }, record);
    await waitFor("it to listen", () => kinds(again).includes("listening"));
    expect(again.exits).toEqual([]);
    expect(again.runner.record.pid).not.toBe(record.pid);
    expect(again.runner.record.notes).not.toHaveProperty("relaunch_exit_code");
    await lab.run({ overrides: { durationMs: 50 } }, again);
    expect(again.exits).toMatchObject([{ meaning: "done", ranJob: true }]);
  });

  test("while update.finished is awaited, which came in the meantime", async () => {
    const settings = await lab.register(
      { scenario: "update-never-finishes" },
      { timing: { updateMs: 60_000 } },
    );
    const watched = await lab.start(settings);
    const record = await waitFor("the wait", () => noted(watched, "relaunch_exit_code"));
    await watched.runner.release();
    await writeFile(join(lab.dir, "update.finished"), "");
    const again = await lab.adopt(watched, record);
    await waitFor("it to listen", () => stages(again).includes("listening"));
    expect(again.exits).toEqual([]);
    expect(await isThere(join(lab.dir, "update.finished"))).toBe(false);
  });

  test("a Listener that ended with code 2 while nobody watched is told by its last words", async () => {
    const watched = await lab.listen({ scenario: "poll-10-errors", timeFactor: 0.05 });
    await watched.runner.release();
    const { record } = watched.runner;
    await waitFor("its end", () => isGone(record.pid));
    await rm(join(lab.dir, "FAKE_SCENARIO.json"));
    const again = await lab.adopt(watched, record);
    await waitFor("it to listen again", () => stages(again).includes("listening"));
    expect(again.exits).toEqual([]);
  });

  test("the cap holds over restarts of the agent", async () => {
    const settings = await lab.register({ scenario: "restart-loop" }, { timing: { relaunchesMax: 2 } });
    const watched = await lab.start({ ...settings, timing: { ...settings.timing, relaunchMs: 60_000 } });
    const record = await waitFor("the pause", () => noted(watched, "relaunch_exit_code"));
    await watched.runner.release();
    const again = await lab.adopt({ settings }, record);
    await lab.ended(again);
    expect(again.exits).toMatchObject([{ meaning: "crashed", exitCode: 2 }]);
    expect(stages(again).filter((stage) => stage === "started")).toHaveLength(2);
  });
});

test("(b) a job that was only assigned and ended while the agent was away is told whole", async () => {
  const watched = await lab.listen({}, { timing: { identityMs: 60_000 } });
  await rm(join(lab.folder, "state", "runner", "hooks", "job-started.sh"));
  await lab.github.queueJob({
    scenario: "setup-fail",
    displayName: "broken",
    overrides: { setupSeconds: 20 },
  });
  await waitFor("the name", () => noted(watched, "job_name"));
  const record = watched.runner.record;
  expect(kinds(watched)).not.toContain("job_started");
  await watched.runner.release();
  await waitFor("its end", () => isGone(record.pid));
  // The completion line is not there either: it was cut off with the output.
  await writeFile(record.output.path, "");
  const again = await lab.adopt(watched, record);
  await lab.ended(again);
  expect(kinds(again)).toEqual(["job_started", "job_completed"]);
  expect(again.seen.at(-1)).toMatchObject({ result: "unknown", job: { jobName: "broken" } });
  expect(again.exits).toMatchObject([{ meaning: "done", ranJob: true }]);
});

test("(b) a job that was told to be over is not told again", async () => {
  const watched = await lab.listen({ scenario: "exit2-after-job" }, { timing: { goneMs: 0 } });
  await lab.github.queueJob({ overrides: { durationMs: 50 } });
  const record = await waitFor("its end", () =>
    watched.records.findLast(({ notes }) => notes?.["phase"] === "over"),
  );
  await watched.runner.release();
  await waitFor("the Listener's end", () => isGone(record.pid));
  const again = await lab.adopt(watched, record);
  await lab.ended(again);
  expect(kinds(again)).toEqual([]);
  expect(again.exits).toMatchObject([{ ranJob: true, meaning: "done" }]);
});

describe("(c) an orphaned config.sh", () => {
  test("of an agent that was killed is ended before the next registration", async () => {
    const installed = await lab.install();
    // Whoever of the two meets it only waits a while.
    await lab.github.addFault({ path: "/actions/runner-registration$", delayMs: 2000, times: 1 });
    // As the agent starts it: a group of its own that outlives the agent.
    const orphan = spawn(
      installed.configScript,
      ["--unattended", "--url", `${lab.github.webUrl}/acme`, "--name", "orphan"],
      {
        cwd: lab.dir,
        detached: true,
        stdio: "ignore",
        env: {
          PATH: process.env["PATH"],
          RUNNER_ALLOW_RUNASROOT: "1",
          ACTIONS_RUNNER_INPUT_TOKEN: await lab.registrationToken(),
        },
      },
    );
    await waitFor("its Listener", async () => (await lab.processes(/Runner\.Listener configure/)).length > 0);
    const configured = await lab.configure(installed);
    expect(configured).toMatchObject({ name: "vm-1-1" });
    expect(orphan.signalCode).toBe("SIGKILL");
    expect(await lab.processes(/Runner\.Listener configure/)).toEqual([]);
  });

  test("of another directory, and whatever only has its name as an argument, is left alone", async () => {
    await lab.install();
    const stranger = spawn("sleep", ["300"], {
      cwd: lab.dir,
      argv0: "tail -f config.sh.log",
      stdio: "ignore",
    });
    const elsewhere = spawn("bash", ["-c", "exec -a /elsewhere/config.sh sleep 300"], {
      cwd: lab.folder,
      stdio: "ignore",
    });
    expect(await endOrphanedConfig(lab.dir)).toBe(0);
    for (const child of [stranger, elsewhere]) {
      expect(child.exitCode ?? child.signalCode).toBeNull();
      child.kill("SIGKILL");
    }
  });
});

describe("(d) a reader that stalls", () => {
  test("blocks nothing else: the rest of every look goes on, and nothing can be proved", async () => {
    const watched = await lab.listen({}, { timing: { lookMs: 100 } });
    const { record } = watched.runner;
    await watched.runner.release();
    // Opening a FIFO that nobody has open for writing waits for ever, as a file of a network mount that is gone does.
    await rename(record.hooks.path, `${record.hooks.path}.away`);
    execFileSync("mkfifo", [record.hooks.path]);
    const again = await lab.adopt(watched, { ...record, hooks: { path: record.hooks.path, offset: 0 } });
    expect((await again.runner.checkFacts()).unseen).toEqual(["hooks"]);
    expect(await drainRunner(again.runner, "unknown")).toEqual({ kind: "busy" });
    expect(again.runner.isAlive()).toBe(true);
    await lab.run({ overrides: { durationMs: 100 } }, again);
    expect(kinds(again)).toEqual(["job_assigned", "job_started", "job_completed"]);
    expect(again.seen.at(-1)).toMatchObject({ result: "succeeded" });
    // Somebody writes, and whoever waited may go.
    execFileSync("sh", ["-c", `: > ${record.hooks.path}`]);
  });

  test("a part that has not come back is not begun again, and is named until it has", async () => {
    const problems: string[] = [];
    const parts = createLookParts(20, (part) => problems.push(part));
    let finish: () => void = () => {};
    let begun = 0;
    const stalled = () => {
      begun += 1;
      return new Promise<void>((resolve) => {
        finish = resolve;
      });
    };
    await parts.run("disk", stalled);
    await parts.run("disk", stalled);
    await parts.run("other", async () => {});
    expect([begun, parts.pending(), problems]).toEqual([1, ["disk"], ["disk"]]);
    finish();
    await waitFor("it to come back", () => parts.pending().length === 0);
    const broken = async (): Promise<void> => {
      throw new Error("EIO");
    };
    await parts.run("disk", broken);
    await parts.run("file", broken);
    expect([problems, parts.pending()]).toEqual([["disk", "file"], []]);
  });
});

test("(e) a runner that ended while the agent was away leaves nothing behind either", async () => {
  const watched = await lab.listen();
  const { record } = watched.runner;
  await watched.runner.release();
  await lab.github.queueJob({ scenario: "daemon-left" });
  await waitFor("its end", () => isGone(record.pid));
  const again = await lab.adopt(watched, record);
  await lab.ended(again);
  expect(again.exits).toMatchObject([{ meaning: "done", leftBehind: 1 }]);
});

test("(e) after a reboot the numbers of before are nobody's, and nothing is ended", async () => {
  const watched = await lab.listen();
  const { record } = watched.runner;
  await watched.runner.release();
  const rebooted = { settings: { ...watched.settings, bootId: "another boot" } };
  const { installed } = watched.settings;
  const other = { ...rebooted.settings, installed: { ...installed, listener: `${installed.listener}.none` } };
  const again = await lab.adopt({ settings: other }, record);
  await lab.ended(again);
  expect(again.exits[0]).not.toHaveProperty("leftBehind");
  expect(await isGone(record.pid)).toBe(false);
  process.kill(record.pid, "SIGKILL");
});

test("the wall clock is set by three days in the middle of a job, and no duration changes", async () => {
  let aheadMs = 0;
  const clock: Clock = { ...systemClock, nowMs: () => Date.now() + aheadMs };
  const watched = await lab.listen({}, { clock });
  const beganMs = performance.now();
  await lab.github.queueJob({ overrides: { durationMs: 600 } });
  await waitFor("the job", () => kinds(watched).includes("job_started"));
  aheadMs = 3 * 24 * 3_600_000;
  await waitFor("a look", () => watched.runner.checkBusy());
  aheadMs = -aheadMs;
  await lab.ended(watched);
  const completed = watched.seen.at(-1);
  const durationMs = completed?.kind === "job_completed" ? completed.durationMs : undefined;
  expect(completed).toMatchObject({ kind: "job_completed", result: "succeeded" });
  expect(durationMs).toBeGreaterThan(500);
  expect(durationMs).toBeLessThan(performance.now() - beganMs);
  expect(kinds(watched).filter((kind) => kind === "job_completed")).toHaveLength(1);
});

describe("drain and the job message (runner-contract §3.9)", () => {
  test("a runner that got a job message and began no job is never signalled", async () => {
    const watched = await lab.listen({ scenario: "hang-after-ack" });
    await lab.github.queueJob({});
    await waitFor("the job message", () => watched.runner.isBusy());
    for (const verdict of ["unknown", "removed", "busy"] as const)
      expect(await drainRunner(watched.runner, verdict, { removedMs: 50 })).toEqual({ kind: "busy" });
    expect(watched.runner.isAlive()).toBe(true);
    expect(await watched.runner.checkFacts()).toMatchObject({ job: "latched", hasJobMessage: true });
  });

  test("one whose job is over is given the time to end by itself", async () => {
    const watched = await lab.listen({}, { timing: { goneMs: 100 } });
    await lab.github.addFault({ path: "/broker/session$", method: "DELETE", delayMs: 600 });
    await lab.github.queueJob({ overrides: { durationMs: 50 } });
    await waitFor("the job's end", () => kinds(watched).includes("job_completed"));
    const outcome = await drainRunner(watched.runner, "unknown");
    expect(outcome).toMatchObject({ kind: "drained", proof: { job: "over", hook: "completed" } });
    expect(watched.exits).toMatchObject([{ meaning: "done", ranJob: true }]);
  });
});

describe("what a job used", () => {
  test("is taken of its whole tree, also of what has ended, and of no more", async () => {
    const burn = "timeout 0.5 sh -c 'while :; do :; done' || :\n";
    const write = "dd if=/dev/zero of=big bs=1M count=32 conv=fsync 2>/dev/null\nsleep 0.3\n";
    const steps = [{ name: "Work", run: `head -c 80000000 /dev/zero | tail > /dev/null\n${burn}${write}` }];
    const watched = await lab.run({ overrides: { steps } }, await lab.listen());
    const completed = watched.seen.at(-1);
    const usage = completed?.kind === "job_completed" ? completed.usage : undefined;
    expect(usage?.cpuSeconds).toBeGreaterThan(0.2);
    expect(usage?.cpuSeconds).toBeLessThan(20);
    expect(usage?.peakMemoryBytes).toBeGreaterThan(70_000_000);
    expect(usage?.diskWrittenBytes).toBeGreaterThan(16_000_000);
  });
});
