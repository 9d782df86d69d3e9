import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { waitFor } from "@mig/kit";
import type { JobOverrides, ScenarioName } from "@mig/sandbox";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { drainRunner } from "../src/shutdown/drain.ts";
import { isGone, isThere, kinds, RunnerLab, stages, troubles, type Watched } from "./runner-lab.ts";

/** Every scenario of runner-contract §12.2 that the stand-in can play, with real processes and the verdict of §11. */
let lab: RunnerLab;
beforeEach(async () => {
  lab = await RunnerLab.open();
});
afterEach(() => lab.close());

const whole = ["listening", "job_assigned", "job_started", "job_finishing", "job_completed"];
const isBusy = (watched: Watched) => waitFor("the job", () => kinds(watched).includes("job_started"));

describe("a job that runs to its end", () => {
  test.each([
    ["ok", "succeeded"],
    ["fail", "failed"],
    ["issues", "succeeded"],
  ] as const)("%s: done, result %s", async (scenario, result) => {
    const watched = await lab.run({ scenario, overrides: { durationMs: 100 } }, await lab.listen());
    expect(kinds(watched)).toEqual(whole);
    expect(watched.seen.at(-1)).toMatchObject({ result, confidence: "likely" });
    expect(watched.seen.at(-1)).not.toHaveProperty("contradictions");
    expect(watched.exits).toMatchObject([{ meaning: "done", ranJob: true, exitCode: 0 }]);
  });

  test("cancel-api: done, cancelled; what always runs has run, the completed hook too", async () => {
    const watched = await lab.run({ scenario: "cancel-api" }, await lab.listen());
    expect(kinds(watched)).toEqual(whole);
    expect(watched.seen.at(-1)).toMatchObject({ result: "cancelled" });
    expect(await readFile(join(lab.workspace, "always.txt"), "utf8")).toBe("cleaned\n");
  });

  test("abandon: the result is unknown, because the service knows better", async () => {
    const watched = await lab.run({ scenario: "abandon" }, await lab.listen({ timeFactor: 0.01 }));
    expect(watched.seen.at(-1)).toMatchObject({ kind: "job_completed", result: "unknown" });
    expect(watched.exits).toMatchObject([{ meaning: "done", ranJob: true }]);
  });

  test("no-completion-line: done, result unknown, by the Worker's end or the Listener's", async () => {
    const watched = await lab.run({ scenario: "no-completion-line" }, await lab.listen());
    expect(watched.seen.at(-1)).toMatchObject({
      kind: "job_completed",
      result: "unknown",
      confidence: "hint",
    });
    expect(watched.exits).toMatchObject([{ meaning: "done", ranJob: true }]);
  });

  test("worker-crash: failed", async () => {
    const watched = await lab.run({ scenario: "crash" }, await lab.listen({ timeFactor: 0.05 }));
    expect(watched.seen.at(-1)).toMatchObject({ kind: "job_completed", result: "failed" });
    expect(kinds(watched)).not.toContain("job_finishing");
  });

  test("setup-fail: failed, identity unknown, no hook", async () => {
    const watched = await lab.run({ scenario: "setup-fail" }, await lab.listen());
    expect(watched.seen.at(-1)).toMatchObject({ result: "failed", job: { jobId: "", runId: "" } });
    expect(kinds(watched)).not.toContain("job_finishing");
  });

  test("spoof: nobody is fooled by a job's name, and says so", async () => {
    const watched = await lab.run(
      { scenario: "spoof", overrides: { durationMs: 400, result: "Failed" } },
      await lab.listen(),
    );
    expect(kinds(watched).filter((kind) => kind === "listening")).toHaveLength(1);
    const completed = watched.seen.at(-1);
    expect(completed).toMatchObject({ kind: "job_completed", result: "unknown", confidence: "hint" });
    expect(completed).toHaveProperty("contradictions");
    expect(lab.logged.some((line) => "contradiction" in line)).toBe(true);
  });

  test("stdout-flood: a hundred megabytes of trace lines block nobody", { timeout: 60_000 }, async () => {
    const watched = await lab.run(
      { scenario: "flood", overrides: { durationMs: 50, floodLines: 100 } },
      await lab.listen({}, { timing: { outputBytesMax: 4 * 1024 * 1024 } }),
    );
    // The line with the result may be cut off with the flood in which it stands; the end of the job may not.
    expect(watched.seen.at(-1)).toMatchObject({
      kind: "job_completed",
      result: expect.stringMatching(/^(?:succeeded|unknown)$/),
    });
  });

  test("job-steals-env: no agent secret is in it", async () => {
    await lab.run({ scenario: "job-steals-env", overrides: { durationMs: 50 } }, await lab.listen());
    const stolen = await readFile(join(lab.workspace, "stolen-env.txt"), "utf8");
    expect(stolen).toContain("GITHUB_RUN_ID=");
    expect(stolen).not.toMatch(/s3cret|ACTIONS_RUNNER_INPUT_/);
  });
});

describe("hooks (runner-contract §6.5)", () => {
  const withOwn = async (text: string, which: "started" | "completed" = "started"): Promise<Watched> => {
    const own = join(lab.folder, "own.sh");
    await writeFile(own, text);
    return lab.listen({}, { chainHooks: { [which]: own } });
  };

  test.each([
    ["started", "failed"],
    ["completed", "failed"],
  ] as const)(
    "hook-exit1 in the operator's %s hook: the job has failed, and is seen whole",
    async (which, result) => {
      const watched = await lab.run({ overrides: { durationMs: 50 } }, await withOwn("exit 1\n", which));
      expect(kinds(watched)).toEqual(whole);
      expect(watched.seen.at(-1)).toMatchObject({ result });
    },
  );

  test("hook-missing: the job has failed", async () => {
    const watched = await lab.listen();
    await rm(join(lab.folder, "state", "runner", "hooks", "job-started.sh"));
    await lab.run({ overrides: { durationMs: 50 } }, watched);
    expect(watched.seen.at(-1)).toMatchObject({ kind: "job_completed", result: "failed" });
  });

  test("hook-hang: the job is busy until somebody cancels it", async () => {
    const watched = await withOwn("sleep 600\n");
    const job = await lab.github.queueJob({ overrides: { durationMs: 50 } });
    await isBusy(watched);
    expect(await drainRunner(watched.runner, "unknown")).toEqual({ kind: "busy" });
    await lab.github.cancelJob(job.id);
    await lab.ended(watched);
    expect(watched.seen.at(-1)).toMatchObject({ kind: "job_completed", result: "cancelled" });
  });
});

describe("a job that never begins (runner-contract §4.8)", () => {
  const isGhost = (watched: Watched) =>
    waitFor("the ghost", () => watched.news.find((one) => one.kind === "job_stalled"));

  test("ghost-ack: told once after the bound; busy until GitHub has removed the runner, then recycled", async () => {
    const watched = await lab.listen({}, { timing: { ghostMs: 400 } });
    await lab.github.queueJob({ scenario: "ghost-ack" });
    expect(await isGhost(watched)).toMatchObject({ why: "ghost", source: "perf" });
    expect(kinds(watched)).toEqual(["listening", "job_assigned"]);
    expect(watched.runner.isBusy()).toBe(true);
    expect(await drainRunner(watched.runner, "unknown")).toEqual({ kind: "busy" });
    const outcome = await drainRunner(watched.runner, "removed", { removedMs: 300, interruptMs: 5000 });
    expect(outcome).toMatchObject({ kind: "drained", proof: { job: "latched", worker: "none" } });
    expect(watched.exits).toMatchObject([{ ranJob: false }]);
    expect(watched.news.filter((one) => one.kind === "job_stalled")).toHaveLength(1);
  });

  test("hang-after-ack: told by the watchdog", async () => {
    const watched = await lab.listen({ scenario: "hang-after-ack" }, { timing: { ghostMs: 300 } });
    await lab.github.queueJob({});
    expect(await isGhost(watched)).toMatchObject({ source: "perf" });
    expect(kinds(watched)).not.toContain("job_started");
  });

  test("ack-notfound: the runner ends idle, which is no success of a job", async () => {
    const watched = await lab.run({ scenario: "ack-notfound" }, await lab.listen());
    expect(kinds(watched)).toEqual(["listening", "job_assigned"]);
    expect(watched.exits).toMatchObject([{ meaning: "done", ranJob: false, exitCode: 0 }]);
  });
});

describe("how a Listener ends or does not begin", () => {
  test("deleted-idle: removed", async () => {
    const watched = await lab.listen();
    const [registered] = await lab.github.runners();
    await lab.github.deleteRunner(registered?.id ?? 0);
    await lab.ended(watched);
    expect(watched.exits).toMatchObject([{ meaning: "removed", ranJob: false }]);
    expect(troubles(watched)).toEqual(["registration_deleted"]);
  });

  test("registration deleted while a job runs: told, and the job is told to have ended", async () => {
    const watched = await lab.listen();
    await lab.github.queueJob({ overrides: { durationMs: 60_000 } });
    await isBusy(watched);
    const [registered] = await lab.github.runners();
    await lab.github.deleteRunner(registered?.id ?? 0);
    await lab.ended(watched);
    expect(troubles(watched)).toEqual(["registration_deleted"]);
    expect(watched.seen.at(-1)).toMatchObject({ kind: "job_completed" });
    expect(watched.exits).toMatchObject([{ meaning: "done", ranJob: true }]);
  });

  test.each<[ScenarioName, string, number, string[]]>([
    ["deleted-before-start", "terminated_error", 1, ["registration_deleted"]],
    ["conflict", "session_conflict", 5, ["session_conflict", "connect_error"]],
    ["deprecated", "version_deprecated", 7, []],
    ["unknown-exit", "crashed", 134, []],
    ["poll-10-errors", "crashed", 2, []],
    ["restart-loop", "crashed", 2, []],
  ])("%s: %s, code %i", async (scenario, meaning, exitCode, told) => {
    const options = { scenario, timeFactor: 0.002 };
    const watched = await lab.start(await lab.register(options, { timing: { relaunchesMax: 2 } }));
    await lab.ended(watched);
    expect(watched.exits).toMatchObject([{ meaning, exitCode, ranJob: false }]);
    expect(troubles(watched)).toEqual(told);
    if (exitCode === 2) expect(stages(watched).filter((stage) => stage === "started")).toHaveLength(3);
  });

  test("poll-10-errors with a job: the job is cancelled, the runner is done", async () => {
    const watched = await lab.listen({ scenario: "poll-10-errors-busy" });
    await lab.run({ overrides: { durationSeconds: 600 } }, watched);
    expect(watched.seen.at(-1)).toMatchObject({ kind: "job_completed", result: "cancelled" });
    expect(watched.exits).toMatchObject([{ meaning: "done", exitCode: 2, ranJob: true }]);
  });

  test("exit2-after-job: done, and nothing is started again", async () => {
    const watched = await lab.run(
      { scenario: "exit2-after-job", overrides: { durationMs: 50 } },
      await lab.listen(),
    );
    expect(watched.exits).toMatchObject([{ meaning: "done", exitCode: 2, ranJob: true }]);
    expect(await lab.processes(/Runner\.Listener/)).toEqual([]);
  });

  test.each<[ScenarioName, string[]]>([
    ["skew", ["clock_skew", "connect_error"]],
    ["reconnect", ["connect_error"]],
  ])("%s: told once for the series, then it listens", async (scenario, told) => {
    const watched = await lab.listen({ scenario });
    expect(troubles(watched)).toEqual(told);
    expect(stages(watched)).toEqual(["started", "connected", "listening"]);
  });

  test.each<[ScenarioName, boolean]>([
    ["reconnect-v1", true],
    ["reconnect-v2", false],
  ])("%s: errors while polling leave it idle", async (scenario, saysSo) => {
    const watched = await lab.listen({ scenario });
    await waitFor("the trouble", () => troubles(watched).length > 0);
    expect(watched.runner.isBusy()).toBe(false);
    await lab.run({ overrides: { durationMs: 50 } }, watched);
    expect(troubles(watched)).toEqual(["connect_error"]);
    expect(watched.exits).toMatchObject([{ meaning: "done", ranJob: true }]);
    const output = await readFile(watched.runner.record.output.path, "utf8");
    expect(output.includes("Runner reconnected.")).toBe(saysSo);
  });

  test.each<[ScenarioName, boolean]>([
    ["update", true],
    ["update-never-finishes", false],
  ])("%s: not ready while it updates, then started again and idle", async (scenario) => {
    const watched = await lab.start(await lab.register({ scenario }));
    await waitFor(
      "its second start",
      () => stages(watched).filter((one) => one === "listening").length === 2,
    );
    expect(stages(watched)).toEqual([
      "started",
      "connected",
      "listening",
      "updating",
      "started",
      "connected",
      "listening",
    ]);
    expect(watched.news).toContainEqual({ kind: "stage", stage: "updating", withinMs: 1_200_000 });
    expect(troubles(watched)).toEqual(["update_started"]);
    expect(watched.exits).toEqual([]);
    expect(kinds(watched)).toEqual(["listening"]);
    expect(await readFile(watched.runner.record.output.path, "utf8")).toContain("'2.999.0'");
    await waitFor("the flag to be used up", async () => !(await isThere(join(lab.dir, "update.finished"))));
  });
});

describe("a Listener that takes its time", () => {
  test("slow-start: it stays at its first stage, whose bound is told", async () => {
    const watched = await lab.start(
      await lab.register({ scenario: "slow-start" }, { timing: { connectMs: 77 } }),
    );
    expect(watched.news).toEqual([{ kind: "stage", stage: "started", withinMs: 77 }]);
    await waitFor("it to listen", () => stages(watched).includes("listening"));
    expect(stages(watched)).toEqual(["started", "connected", "listening"]);
  });

  test.each<[ScenarioName, string]>([
    ["slow-stop", "interrupted"],
    ["ignore-int", "killed"],
  ])("%s: %s", async (scenario, listener) => {
    const watched = await lab.listen({ scenario });
    const bounds = { interruptMs: scenario === "slow-stop" ? 10_000 : 200 };
    expect(await drainRunner(watched.runner, "unknown", bounds)).toMatchObject({
      kind: "drained",
      was: "idle",
      proof: {
        listener,
        registration: "unknown",
        job: "none",
        job_message: false,
        running_line: false,
        hook: "none",
        worker: "none",
      },
    });
    expect(watched.exits).toMatchObject([{ meaning: "stopped" }]);
  });
});

describe("what a job leaves behind", () => {
  test("daemon-left: what stays in its session is ended and counted", async () => {
    const watched = await lab.run({ scenario: "daemon-left" }, await lab.listen());
    const pids = (await readFile(join(lab.workspace, "daemons.txt"), "utf8")).trim().split("\n").map(Number);
    expect(pids).toHaveLength(2);
    // The runner itself ends the one with its tracking id; the other one is ours to end.
    expect(watched.exits).toMatchObject([{ meaning: "done", leftBehind: 1 }]);
    for (const pid of pids) await waitFor("their end", () => isGone(pid));
  });
});

describe("registration (runner-contract §2.7)", () => {
  const fault = { path: "/actions/runners/register$", method: "POST" };

  test("register-lost: the answer is lost, the next attempt replaces what the first one made", async () => {
    const installed = await lab.install();
    await lab.github.addFault({ ...fault, drop: "after", times: 3 });
    await expect(lab.configure(installed)).rejects.toMatchObject({ code: "runner_configure_failed" });
    await lab.github.clearFaults();
    expect(await lab.configure(installed)).toMatchObject({ name: "vm-1-1" });
    expect(await lab.github.runners()).toHaveLength(1);
  });

  test.each([
    ["register-409", { ...fault, status: 409, body: { message: "Already exists" } }, /409|Already exists/],
    [
      "rate-limited",
      { path: "/actions/runner-registration$", status: 403, headers: { "retry-after": "60" } },
      /Forbidden|403/,
    ],
    ["rate-limited", { path: "/actions/runner-registration$", status: 429 }, /TooManyRequests|429/],
  ])("%s: refused in the runner's words, and works when GitHub does", async (_name, refusal, words) => {
    const installed = await lab.install();
    await lab.github.addFault({ ...refusal, times: 9 });
    await expect(lab.configure(installed)).rejects.toThrow(words);
    await lab.github.clearFaults();
    expect(await lab.configure(installed)).toMatchObject({ name: "vm-1-1" });
  });
});

describe("agent-restart (runner-contract trap 10)", () => {
  const overrides: JobOverrides = { durationMs: 900 };

  test("while idle, with a job that comes afterwards", async () => {
    const watched = await lab.listen();
    await watched.runner.release();
    const again = await lab.adopt(watched, watched.runner.record);
    expect(again.runner.isAlive()).toBe(true);
    expect(again.runner.isBusy()).toBe(false);
    await lab.run({ overrides: { durationMs: 50 } }, again);
    expect(kinds(again)).toEqual(whole.slice(1));
    expect(again.exits).toMatchObject([{ meaning: "done", ranJob: true }]);
  });

  test("in the middle of a job, whose duration is that of the whole job", async () => {
    const watched = await lab.listen();
    await lab.github.queueJob({ overrides });
    await isBusy(watched);
    await waitFor("a while of the job", async () => {
      const started = watched.seen.find((one) => one.kind === "job_started");
      return started?.kind === "job_started" && Date.now() - (started.job.startedAtMs ?? 0) > 500;
    });
    const job = watched.runner.currentJob();
    await watched.runner.release();
    const again = await lab.adopt(watched, watched.runner.record, job);
    await lab.ended(again);
    expect(kinds(again)).toEqual(["job_finishing", "job_completed"]);
    const completed = again.seen.at(-1);
    expect(completed?.kind === "job_completed" ? completed.durationMs : 0).toBeGreaterThan(500);
  });

  test("while it updates itself", async () => {
    const watched = await lab.start(await lab.register({ scenario: "update" }));
    await waitFor("the update", () => stages(watched).includes("updating"));
    await watched.runner.release();
    const again = await lab.adopt(watched, watched.runner.record);
    await waitFor("its second start", () => stages(again).includes("listening"));
    expect(again.exits).toEqual([]);
  });
});
