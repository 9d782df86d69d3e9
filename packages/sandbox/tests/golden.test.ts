import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Lab, type Program } from "./lab.ts";

const normalStart = ["", "√ Connected to GitHub", "", "Current runner version: '2.336.0'"];

/** What a program printed, with every time replaced by `<ts>`. */
function lines(text: string): readonly string[] {
  return text
    .replaceAll(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ: /gm, "<ts>: ")
    .split("\n")
    .slice(0, -1);
}

async function transcript(program: Program): Promise<readonly string[]> {
  await program.exited;
  return lines(program.stdout);
}

describe("transcripts of runner-contract §12.3 through run.sh", () => {
  let lab: Lab;
  beforeAll(async () => {
    lab = await Lab.open();
  });
  afterAll(() => lab.close());

  it("runs one job on a JIT runner and ends", async () => {
    const runner = await lab.install();
    const program = await lab.startJit(runner, {}, runner.runPath);
    const job = await lab.github.queueJob({ displayName: "build (linux, 20)", labels: ["SELF-hosted"] });
    expect(await transcript(program)).toEqual([
      ...normalStart,
      "<ts>: Listening for Jobs",
      "<ts>: Running job: build (linux, 20)",
      "<ts>: Job build (linux, 20) completed with result: Succeeded",
      "√ Removed .credentials",
      "√ Removed .runner",
      "Runner listener exit with 0 return code, stop the service, no retry needed.",
      "Exiting runner...",
    ]);
    expect(program.stderr).toBe("");
    expect(await program.exited).toBe(0);
    // Chunks are no lines: the check mark comes alone.
    expect(program.chunks.some((chunk) => chunk.endsWith("√ "))).toBe(true);
    expect(await lab.github.job(job.id)).toMatchObject({ conclusion: "success", reportedBy: "worker" });
    expect(await lab.github.runners()).toEqual([]);
    expect(existsSync(join(runner.root, ".runner"))).toBe(false);
  });

  it("ends at SIGINT while idle and stays configured and registered", async () => {
    const runner = await lab.install();
    await lab.configure(runner, ["--name", "idle-int", "--ephemeral"]);
    const program = lab.start(runner.runPath);
    await program.prints(/Listening for Jobs\n/);
    process.kill(lab.listenerOf(runner), "SIGINT");
    expect((await transcript(program)).slice(4)).toEqual([
      "<ts>: Listening for Jobs",
      "Exiting...",
      "Runner listener exit with 0 return code, stop the service, no retry needed.",
      "Exiting runner...",
    ]);
    expect(existsSync(join(runner.root, ".runner"))).toBe(true);
    const [left] = await lab.github.runners();
    expect(left).toMatchObject({ name: "idle-int", status: "offline", busy: false });
    await lab.github.deleteRunner(left?.id ?? 0);
  });

  it("cancels the job at SIGINT while busy: Canceled on stdout, Failed at GitHub", async () => {
    const runner = await lab.install();
    const program = await lab.startJit(runner, {}, runner.runPath);
    const job = await lab.github.queueJob({ scenario: "long", displayName: "slow one" });
    await lab.jobWorks(job.id);
    process.kill(lab.listenerOf(runner), "SIGINT");
    expect((await transcript(program)).slice(5)).toEqual([
      "<ts>: Running job: slow one",
      "Exiting...",
      "<ts>: Job slow one completed with result: Canceled",
      "Runner listener exit with 0 return code, stop the service, no retry needed.",
      "Exiting runner...",
    ]);
    expect(await lab.github.job(job.id)).toMatchObject({
      conclusion: "failure",
      annotations: [
        "Process completed with exit code 143.",
        expect.stringContaining("The runner has received a shutdown signal."),
      ],
    });
    expect(existsSync(join(runner.root, ".runner"))).toBe(true);
  });

  it("gives up after eight session conflicts", async () => {
    const runner = await lab.install({ scenario: "conflict", timeFactor: 0.001 });
    await lab.configure(runner, ["--name", "conflicted"]);
    const program = lab.start(runner.runPath);
    const message = "The actions runner stand-in already has an active session.";
    const connected = ["", "√ Connected to GitHub", ""];
    expect(await transcript(program)).toEqual([
      ...Array.from({ length: 8 }, () => connected).flat(),
      "Runner listener exit with Session Conflict error, stop the service, no retry needed.",
      "Exiting runner...",
    ]);
    expect(await program.exited).toBe(0);
    const conflict = "A session for this runner already exists.";
    expect(lines(program.stderr)).toEqual([
      conflict,
      `<ts>: Runner connect error: ${message}. Retrying until reconnected.`,
      ...Array.from({ length: 7 }, () => conflict),
      "Stop retry on SessionConflictException after retried for 240 seconds.",
      `Failed to create session. ${message}`,
    ]);
  });

  it("writes _diag logs and the perf log of both processes", async () => {
    const runner = await lab.install();
    const perf = join(lab.folder, "perf");
    const program = await lab.startJit(runner, { RUNNER_PERFLOG: perf });
    const { guid } = await lab.github.queueJob();
    await program.exited;
    const counters = (name: string) =>
      readFileSync(join(perf, `${name}.perf`), "utf8")
        .split("\n")
        .slice(0, -1)
        .map((line) => /^([^:]+):\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z$/.exec(line)?.[1]);
    expect(counters("Runner")).toEqual([
      "RunnerProcessStarted",
      "SessionCreated",
      "MessageReceived_RunnerJobRequest",
      "JobRequestRenewed_0",
      "StartingWorkerProcess",
      `RunnerSendingJobToWorker_${guid}`,
      "SentJobToWorker_0",
    ]);
    expect(counters("Worker").slice(0, 3)).toEqual([
      "WorkerProcessStarted",
      "WorkerWaitingForJobMessage",
      "WorkerJobMessageReceived_0",
    ]);
    expect(lab.diag(runner, "Runner")).toMatch(
      /^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ INFO Runner\] Acknowledging/m,
    );
    expect(lab.diag(runner, "Worker")).toContain(`Job ID ${guid}`);
    expect(lab.diag(runner, "Worker")).toContain("Job message:");
  });
});
