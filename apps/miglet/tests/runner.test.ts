import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pause, silentLog, waitFor } from "@mig/kit";
import { type Github, installRunner, type RunnerOptions, startGithub } from "@mig/sandbox";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { RunnerRecord } from "../src/memory/state-file.ts";
import { configureRunner } from "../src/runner/configure.ts";
import type { JobObservation } from "../src/runner/evidence.ts";
import type { RunnerExit } from "../src/runner/exit.ts";
import { inspectRunner } from "../src/runner/installed-runner.ts";
import { findProgram } from "../src/runner/proc.ts";
import {
  adoptRunner,
  type RunnerTiming,
  type SupervisedRunner,
  type SuperviseSettings,
  startRunner,
} from "../src/runner/supervise.ts";
import { drainRunner } from "../src/shutdown/drain.ts";

let github: Github;
let folder: string;
const runners: SupervisedRunner[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "mig-runner-"));
  github = await startGithub({ pollMs: 300 });
});
afterEach(async () => {
  for (const runner of runners.splice(0)) {
    await runner.kill();
    await runner.release();
  }
  await github.close();
  await rm(folder, { recursive: true, force: true });
});

const quick: Partial<RunnerTiming> = {
  watchMs: 20,
  identityMs: 1500,
  goneMs: 300,
  relaunchMs: 20,
  updateMs: 500,
  orphanMs: 5000,
};
// The stand-in reaches its GitHub without a proxy and may run as root here.
const environment = {
  host: { ...process.env, http_proxy: undefined, https_proxy: undefined, SECRET_OF_AGENT: "s3cret" },
  extra: { RUNNER_ALLOW_RUNASROOT: "1" },
};

interface Watched {
  runner: SupervisedRunner;
  seen: JobObservation[];
  exits: RunnerExit[];
  records: RunnerRecord[];
  settings: SuperviseSettings;
}

const kinds = (watched: Pick<Watched, "seen">): string[] => watched.seen.map((one) => one.kind);

async function register(options: RunnerOptions = {}): Promise<SuperviseSettings> {
  const dir = join(folder, "runner");
  await installRunner(dir, { timeFactor: 0.02, ...options });
  const installed = await inspectRunner(dir, false);
  const registration = await fetch(`${github.url}/orgs/acme/actions/runners/registration-token`, {
    method: "POST",
    headers: { authorization: `Bearer ${await installationToken()}` },
  });
  const { token } = (await registration.json()) as { token: string };
  const configured = await configureRunner({
    installed,
    environment,
    disableUpdate: true,
    registration: {
      name: "vm-1-1",
      runnerUrl: `${github.webUrl}/acme`,
      labels: ["linux", "mig"],
      material: { kind: "token", token },
    },
  });
  const stateDir = join(folder, "state");
  await mkdir(stateDir);
  return {
    installed,
    ...configured,
    labels: ["linux", "mig"],
    stateDir,
    bootId: "boot",
    environment,
    timing: quick,
    log: silentLog,
  };
}

async function installationToken(): Promise<string> {
  const header = Buffer.from('{"alg":"RS256","typ":"JWT"}').toString("base64url");
  const now = Math.floor(Date.now() / 1000);
  const claims = Buffer.from(JSON.stringify({ iss: "1234", iat: now - 30, exp: now + 300 })).toString(
    "base64url",
  );
  const answer = await fetch(`${github.url}/app/installations/1/access_tokens`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${header}.${claims}.${Buffer.from("unverified").toString("base64url")}`,
    },
  });
  return ((await answer.json()) as { token: string }).token;
}

async function start(settings: SuperviseSettings): Promise<Watched> {
  const watched = { seen: [], exits: [], records: [] } as Pick<Watched, "seen" | "exits" | "records">;
  const runner = await startRunner(settings, listenerOf(watched));
  runners.push(runner);
  return { ...watched, runner, settings };
}

function listenerOf(watched: Pick<Watched, "seen" | "exits" | "records">) {
  return {
    onObservation: (one: JobObservation) => void watched.seen.push(one),
    onExit: (exit: RunnerExit) => void watched.exits.push(exit),
    onRecord: (record: RunnerRecord) => void watched.records.push(record),
  };
}

const listening = (watched: Watched) =>
  waitFor("the runner to listen", () => kinds(watched).includes("listening"));

test("a job is seen from its assignment to its end, identified by the hook, and the runner is done", async () => {
  const watched = await start(await register());
  await listening(watched);
  expect(watched.runner.isBusy()).toBe(false);
  const job = await github.queueJob({
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

test("the job sees nothing of the agent's environment and the token is in no argv or file", async () => {
  const watched = await start(await register());
  await listening(watched);
  await github.queueJob({ scenario: "job-steals-env", overrides: { durationMs: 50 } });
  await waitFor("the end", () => watched.exits.length === 1);
  const stolen = await readFile(join(folder, "runner", "_work", "app", "app", "stolen-env.txt"), "utf8");
  expect(stolen).toContain("GITHUB_RUN_ID=");
  expect(stolen).not.toContain("s3cret");
  expect(stolen).not.toContain("ACTIONS_RUNNER_INPUT_TOKEN");
});

test("a job whose name imitates completion lines runs until its Worker ends, with a result that nobody forged", async () => {
  const watched = await start(await register());
  await listening(watched);
  await github.queueJob({ scenario: "spoof", overrides: { durationMs: 1500, result: "Failed" } });
  await waitFor("the job", () => kinds(watched).includes("job_started"));
  expect(watched.runner.isBusy()).toBe(true);
  await waitFor("the end", () => watched.exits.length === 1);
  const completed = watched.seen.find((one) => one.kind === "job_completed");
  expect(completed).toMatchObject({ result: "unknown" });
  expect(completed?.kind === "job_completed" ? completed.durationMs : 0).toBeGreaterThan(1000);
});

test("a job whose setup fails runs no hook, and is still seen", async () => {
  const watched = await start(await register());
  await listening(watched);
  await github.queueJob({ scenario: "setup-fail", displayName: "broken" });
  await waitFor("the end", () => watched.exits.length === 1);
  expect(kinds(watched).slice(-2)).toEqual(["job_started", "job_completed"]);
  expect(watched.seen.at(-1)).toMatchObject({ result: "failed", job: { jobName: "broken" } });
});

test("an agent that restarts finds the runner again in the middle of a job and sees its end", async () => {
  const watched = await start(await register());
  await listening(watched);
  await github.queueJob({ overrides: { durationMs: 1200 } });
  await waitFor("the job", () => kinds(watched).includes("job_started"));
  const job = watched.runner.currentJob();
  const record = watched.records.at(-1);
  await watched.runner.release();
  if (record === undefined) throw new Error("no record");
  const again = { seen: [], exits: [], records: [] } as Pick<Watched, "seen" | "exits" | "records">;
  const adopted = await adoptRunner(record, job, watched.settings, listenerOf(again));
  runners.push(adopted);
  expect(adopted.isAlive()).toBe(true);
  await waitFor("the end", () => again.exits.length === 1);
  expect(kinds(again)).toEqual(["job_finishing", "job_completed"]);
  expect(again.seen.at(-1)).toMatchObject({ result: "succeeded" });
  expect(again.exits[0]).toMatchObject({ meaning: "done", ranJob: true });
  expect(watched.exits).toEqual([]);
});

test("what happened while no agent watched is observed afterwards; another process with the pid is not taken for ours", async () => {
  const watched = await start(await register());
  await listening(watched);
  const record = watched.records.at(-1);
  await watched.runner.release();
  if (record === undefined) throw new Error("no record");
  await github.queueJob({ overrides: { durationMs: 100 } });
  await waitFor(
    "the runner to remove its files",
    async () => !(await isThere(join(folder, "runner", ".runner"))),
  );
  const again = { seen: [], exits: [], records: [] } as Pick<Watched, "seen" | "exits" | "records">;
  const stranger = { ...record, pid: process.pid };
  runners.push(await adoptRunner(stranger, undefined, watched.settings, listenerOf(again)));
  await waitFor("the end", () => again.exits.length === 1);
  expect(kinds(again)).toContain("job_completed");
  expect(again.exits[0]).toMatchObject({ meaning: "done", ranJob: true });
});

const isThere = (path: string): Promise<boolean> =>
  readFile(path).then(
    () => true,
    () => false,
  );

test("a Listener that dies leaves its Worker to finish the job; then the runner has crashed", async () => {
  const watched = await start(await register());
  await listening(watched);
  await github.queueJob({ overrides: { durationMs: 1000 } });
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
  const settings = await register({ scenario });
  const watched = await start({ ...settings, timing: { ...quick, relaunchesMax: 2 } });
  await waitFor("the end", () => watched.exits.length === 1);
  expect(watched.exits[0]).toMatchObject({ meaning, exitCode, ranJob: false });
});

test("lines of a mebibyte on the runner's output hold nobody up", async () => {
  const watched = await start(await register());
  await listening(watched);
  await github.queueJob({ scenario: "flood", overrides: { durationMs: 50 } });
  await waitFor("the end", () => watched.exits.length === 1);
  expect(watched.seen.at(-1)).toMatchObject({ kind: "job_completed", result: "succeeded" });
});

test("drain of an idle runner that GitHub has removed waits for its own end", async () => {
  const watched = await start(await register());
  await listening(watched);
  const [registered] = await github.runners();
  await github.deleteRunner(registered?.id ?? 0);
  expect(await drainRunner(watched.runner, "removed", { removedMs: 5000 })).toMatchObject({
    kind: "drained",
    was: "idle",
    proof: { listener: "ended_by_itself", registration: "removed" },
  });
  expect(watched.exits[0]).toMatchObject({ meaning: "removed", ranJob: false });
});

test("drain without GitHub interrupts an idle runner, and kills one that does not listen", async () => {
  const watched = await start(await register({ scenario: "ignore-int" }));
  await listening(watched);
  expect(await drainRunner(watched.runner, "unknown", { interruptMs: 200 })).toMatchObject({
    kind: "drained",
    proof: { listener: "killed" },
  });
  expect(watched.exits[0]).toMatchObject({ meaning: "stopped" });
});

test("drain never touches a runner with a job, whatever GitHub said", async () => {
  const watched = await start(await register());
  await listening(watched);
  await github.queueJob({ overrides: { durationMs: 600 } });
  await waitFor("the job", () => watched.runner.isBusy());
  for (const verdict of ["unknown", "removed", "busy"] as const)
    expect(await drainRunner(watched.runner, verdict)).toEqual({ kind: "busy" });
  await waitFor("the end", () => watched.exits.length === 1);
  expect(watched.seen.at(-1)).toMatchObject({ kind: "job_completed", result: "succeeded" });
  expect(await drainRunner(watched.runner, "unknown")).toMatchObject({ kind: "drained", was: "no_runner" });
});

test("a token that GitHub refuses is said in the runner's words, without the token", async () => {
  const dir = join(folder, "runner");
  await installRunner(dir, { timeFactor: 0.02 });
  const installed = await inspectRunner(dir, false);
  const attempt = configureRunner({
    installed,
    environment,
    disableUpdate: true,
    registration: {
      name: "x",
      runnerUrl: `${github.webUrl}/acme`,
      labels: [],
      material: { kind: "token", token: "AWRONGTOKEN12345" },
    },
  });
  await expect(attempt).rejects.toMatchObject({ code: "runner_configure_failed" });
  await expect(attempt).rejects.not.toThrow(/AWRONGTOKEN12345/);
});

test("a drain between two starts of the Listener leaves no Listener behind", async () => {
  const settings = await register({ scenario: "restart-loop" });
  const watched = await start({ ...settings, timing: { ...quick, relaunchMs: 600 } });
  await waitFor("the first end", () => !watched.runner.isAlive());
  expect(await drainRunner(watched.runner, "unknown")).toMatchObject({ kind: "drained", was: "no_runner" });
  expect(watched.exits).toMatchObject([{ meaning: "stopped" }]);
  await pause(700);
  expect(await findProgram(settings.installed.listener)).toBeUndefined();
});

test("a Listener whose new number was never noted is found by its program", async () => {
  const watched = await start(await register());
  await listening(watched);
  const { pid } = watched.runner.record;
  await watched.runner.release();
  const again = { seen: [], exits: [], records: [] } as Pick<Watched, "seen" | "exits" | "records">;
  const before = { ...watched.runner.record, pid: process.pid };
  const adopted = await adoptRunner(before, undefined, watched.settings, listenerOf(again));
  runners.push(adopted);
  expect(adopted.isAlive()).toBe(true);
  expect(again.records.at(-1)?.pid).toBe(pid);
});

test("what was seen is told before it is noted as seen", async () => {
  const order: string[] = [];
  const runner = await startRunner(await register(), {
    onObservation: ({ kind }) => void order.push(kind),
    onRecord: ({ listened }) => void order.push(listened ? "noted" : "begun"),
    onExit: () => {},
  });
  runners.push(runner);
  await waitFor("both", () => order.includes("noted") && order.includes("listening"));
  expect(order.indexOf("listening")).toBeLessThan(order.indexOf("noted"));
});
