import { readdir, readFile, readlink } from "node:fs/promises";
import { join } from "node:path";
import { pause, waitFor } from "@mig/kit";
import { installRunner } from "@mig/sandbox";
import { afterEach, beforeEach, expect, test } from "vitest";
import { configureRunner } from "../src/runner/configure.ts";
import { inspectRunner } from "../src/runner/installed-runner.ts";
import { findProgram } from "../src/runner/proc.ts";
import { startRunner } from "../src/runner/supervise.ts";
import { drainRunner } from "../src/shutdown/drain.ts";
import { environment, isThere, kinds, quick, RunnerLab, type Watched } from "./runner-lab.ts";

let lab: RunnerLab;
beforeEach(async () => {
  lab = await RunnerLab.open();
});
afterEach(() => lab.close());

const listening = (watched: Watched) =>
  waitFor("the runner to listen", () => kinds(watched).includes("listening"));

test("a job is seen from its assignment to its end, identified by the hook, and the runner is done", async () => {
  const watched = await lab.start(await lab.register());
  await listening(watched);
  expect(watched.runner.isBusy()).toBe(false);
  const job = await lab.github.queueJob({
    displayName: "build (linux)",
    jobKey: "build",
    overrides: { durationMs: 300 },
  });
  await waitFor("the end", () => watched.exits.length === 1);
  expect(kinds(watched)).toEqual([
    "listening",
    "job_assigned",
    "job_started",
    "job_finishing",
    "job_completed",
  ]);
  expect(watched.seen[2]).toMatchObject({
    source: "hook",
    job: { jobId: "build", runId: String(job.runId), repository: "acme/app", jobName: "build (linux)" },
  });
  expect(watched.seen[4]).toMatchObject({ result: "succeeded" });
  expect(watched.exits[0]).toMatchObject({ meaning: "done", exitCode: 0, ranJob: true });
});

test("an agent that lives on has none of the files of a runner that has ended, whoever still looks at it", async () => {
  const open = async (): Promise<string[]> => {
    const links = (await readdir("/proc/self/fd")).map((fd) =>
      readlink(`/proc/self/fd/${fd}`).catch(() => ""),
    );
    return (await Promise.all(links)).filter((path) => path.startsWith(`${lab.folder}/`));
  };
  const watched = await lab.start(await lab.register());
  await listening(watched);
  await waitFor("its files to be read", async () => (await open()).length >= 3);
  await lab.github.queueJob({ overrides: { durationMs: 50 } });
  await waitFor("the end", () => watched.exits.length === 1);
  await waitFor("its files to be closed", async () => (await open()).length === 0);
  await watched.runner.checkFacts();
  expect(await open()).toEqual([]);
});

test("the job sees nothing of the agent's environment and the token is in no argv or file", async () => {
  const watched = await lab.start(await lab.register());
  await listening(watched);
  await lab.github.queueJob({ scenario: "job-steals-env", overrides: { durationMs: 50 } });
  await waitFor("the end", () => watched.exits.length === 1);
  const stolen = await readFile(join(lab.workspace, "stolen-env.txt"), "utf8");
  expect(stolen).toContain("GITHUB_RUN_ID=");
  expect(stolen).not.toContain("s3cret");
  expect(stolen).not.toContain("ACTIONS_RUNNER_INPUT_TOKEN");
});

test("a job whose name imitates completion lines runs until its Worker ends, with a result that nobody forged", async () => {
  const watched = await lab.start(await lab.register());
  await listening(watched);
  await lab.github.queueJob({ scenario: "spoof", overrides: { durationMs: 1500, result: "Failed" } });
  await waitFor("the job", () => kinds(watched).includes("job_started"));
  expect(watched.runner.isBusy()).toBe(true);
  await waitFor("the end", () => watched.exits.length === 1);
  const completed = watched.seen.find((one) => one.kind === "job_completed");
  expect(completed).toMatchObject({ result: "unknown" });
  expect(completed?.kind === "job_completed" ? completed.durationMs : 0).toBeGreaterThan(1000);
});

test("a job whose setup fails runs no hook, and is still seen", async () => {
  const watched = await lab.start(await lab.register());
  await listening(watched);
  await lab.github.queueJob({ scenario: "setup-fail", displayName: "broken" });
  await waitFor("the end", () => watched.exits.length === 1);
  expect(kinds(watched).slice(-2)).toEqual(["job_started", "job_completed"]);
  expect(watched.seen.at(-1)).toMatchObject({ result: "failed", job: { jobName: "broken" } });
});

test("an agent that restarts finds the runner again in the middle of a job and sees its end", async () => {
  const watched = await lab.start(await lab.register());
  await listening(watched);
  await lab.github.queueJob({ overrides: { durationMs: 1200 } });
  await waitFor("the job", () => kinds(watched).includes("job_started"));
  const job = watched.runner.currentJob();
  const record = watched.records.at(-1);
  await watched.runner.release();
  if (record === undefined) throw new Error("no record");
  const again = await lab.adopt(watched, record, job);
  expect(again.runner.isAlive()).toBe(true);
  await waitFor("the end", () => again.exits.length === 1);
  expect(kinds(again)).toEqual(["job_finishing", "job_completed"]);
  expect(again.seen.at(-1)).toMatchObject({ result: "succeeded" });
  expect(again.exits[0]).toMatchObject({ meaning: "done", ranJob: true });
  expect(watched.exits).toEqual([]);
});

test("what happened while no agent watched is observed afterwards; another process with the pid is not taken for ours", async () => {
  const watched = await lab.start(await lab.register());
  await listening(watched);
  const record = watched.records.at(-1);
  await watched.runner.release();
  if (record === undefined) throw new Error("no record");
  await lab.github.queueJob({ overrides: { durationMs: 100 } });
  await waitFor(
    "the runner to remove its files",
    async () => !(await isThere(join(lab.folder, "runner", ".runner"))),
  );
  const stranger = { ...record, pid: process.pid };
  const again = await lab.adopt(watched, stranger);
  await waitFor("the end", () => again.exits.length === 1);
  expect(kinds(again)).toContain("job_completed");
  expect(again.exits[0]).toMatchObject({ meaning: "done", ranJob: true });
});

test("a Listener that dies leaves its Worker to finish the job; then the runner has crashed", async () => {
  const watched = await lab.start(await lab.register());
  await listening(watched);
  await lab.github.queueJob({ overrides: { durationMs: 1000 } });
  await waitFor("the job", () => kinds(watched).includes("job_started"));
  process.kill(watched.runner.record.pid, "SIGKILL");
  await waitFor("the Listener to be gone", () => !watched.runner.isAlive());
  expect(watched.runner.isBusy()).toBe(true);
  await waitFor("the end", () => watched.exits.length === 1);
  expect(watched.seen.at(-1)).toMatchObject({ kind: "job_completed", result: "unknown" });
  expect(watched.exits[0]).toMatchObject({ meaning: "crashed", signal: "SIGKILL", ranJob: true });
});

test.each([
  ["restart-loop", "crashed", 2],
  ["deprecated", "version_deprecated", 7],
  ["unknown-exit", "crashed", 134],
  ["deleted-before-start", "terminated_error", 1],
] as const)("a Listener that ends by %s means %s", async (scenario, meaning, exitCode) => {
  const settings = await lab.register({ scenario });
  const watched = await lab.start({ ...settings, timing: { ...quick, relaunchesMax: 2 } });
  await waitFor("the end", () => watched.exits.length === 1);
  expect(watched.exits[0]).toMatchObject({ meaning, exitCode, ranJob: false });
});

test("lines of a mebibyte on the runner's output hold nobody up", async () => {
  const watched = await lab.start(await lab.register());
  await listening(watched);
  await lab.github.queueJob({ scenario: "flood", overrides: { durationMs: 50 } });
  await waitFor("the end", () => watched.exits.length === 1);
  expect(watched.seen.at(-1)).toMatchObject({ kind: "job_completed", result: "succeeded" });
});

test("drain of an idle runner that GitHub has removed waits for its own end", async () => {
  const watched = await lab.start(await lab.register());
  await listening(watched);
  const [registered] = await lab.github.runners();
  await lab.github.deleteRunner(registered?.id ?? 0);
  expect(await drainRunner(watched.runner, "removed", { removedMs: 5000 })).toMatchObject({
    kind: "drained",
    was: "idle",
    proof: { listener: "ended_by_itself", registration: "removed" },
  });
  expect(watched.exits[0]).toMatchObject({ meaning: "removed", ranJob: false });
});

test("drain without GitHub interrupts an idle runner, and kills one that does not listen", async () => {
  const watched = await lab.start(await lab.register({ scenario: "ignore-int" }));
  await listening(watched);
  expect(await drainRunner(watched.runner, "unknown", { interruptMs: 200 })).toMatchObject({
    kind: "drained",
    proof: { listener: "killed" },
  });
  expect(watched.exits[0]).toMatchObject({ meaning: "stopped" });
});

test("drain never touches a runner with a job, whatever GitHub said", async () => {
  const watched = await lab.start(await lab.register());
  await listening(watched);
  await lab.github.queueJob({ overrides: { durationMs: 600 } });
  await waitFor("the job", () => watched.runner.isBusy());
  for (const verdict of ["unknown", "removed", "busy"] as const)
    expect(await drainRunner(watched.runner, verdict)).toEqual({ kind: "busy" });
  await waitFor("the end", () => watched.exits.length === 1);
  expect(watched.seen.at(-1)).toMatchObject({ kind: "job_completed", result: "succeeded" });
  expect(await drainRunner(watched.runner, "unknown")).toMatchObject({ kind: "drained", was: "no_runner" });
});

test("a token that GitHub refuses is said in the runner's words, without the token", async () => {
  const dir = join(lab.folder, "runner");
  await installRunner(dir, { timeFactor: 0.02 });
  const installed = await inspectRunner(dir, false);
  const attempt = configureRunner({
    installed,
    environment,
    disableUpdate: true,
    registration: {
      name: "x",
      runnerUrl: `${lab.github.webUrl}/acme`,
      labels: [],
      material: { kind: "token", token: "AWRONGTOKEN12345" },
    },
  });
  await expect(attempt).rejects.toMatchObject({ code: "runner_configure_failed" });
  await expect(attempt).rejects.not.toThrow(/AWRONGTOKEN12345/);
});

test("a drain between two starts of the Listener leaves no Listener behind", async () => {
  const settings = await lab.register({ scenario: "restart-loop" });
  const watched = await lab.start({ ...settings, timing: { ...quick, relaunchMs: 600 } });
  await waitFor("the first end", () => !watched.runner.isAlive());
  expect(await drainRunner(watched.runner, "unknown")).toMatchObject({ kind: "drained", was: "no_runner" });
  expect(watched.exits).toMatchObject([{ meaning: "stopped" }]);
  await pause(700);
  expect(await findProgram(settings.installed.listener)).toBeUndefined();
});

test("a Listener whose new number was never noted is found by its program", async () => {
  const watched = await lab.start(await lab.register());
  await listening(watched);
  const { pid } = watched.runner.record;
  await watched.runner.release();
  const before = { ...watched.runner.record, pid: process.pid };
  const again = await lab.adopt(watched, before);
  expect(again.runner.isAlive()).toBe(true);
  expect(again.records.at(-1)?.pid).toBe(pid);
});

test("what was seen is told before it is noted as seen", async () => {
  const order: string[] = [];
  const runner = await startRunner(await lab.register(), {
    onObservation: ({ kind }) => void order.push(kind),
    onRecord: ({ listened }) => void order.push(listened ? "noted" : "begun"),
    onExit: () => {},
  });
  await waitFor("both", () => order.includes("noted") && order.includes("listening"));
  expect(order.indexOf("listening")).toBeLessThan(order.indexOf("noted"));
  await runner.kill();
  await runner.release();
});
