/**
 * One job, from the acquired message to the completion line (runner-contract §4.2, §3.6, §3.7).
 * A Worker process lives exactly as long as the job runs. It is told to cancel or to shut down over a pipe, and the
 * Listener waits for it without any limit after a shutdown, with a limit after a cancel.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import type { Writable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { type TaskResult, taskResults } from "../../github/types.ts";
import { recordPerf, timestamp } from "../diag-log.ts";
import { isScenarioName, type JobScript, jobScript } from "../scenarios.ts";
import type { Broker } from "./broker.ts";
import type { Host } from "./host.ts";
import type { Signals } from "./signals.ts";

const renewSeconds = 60;
const sendTimeoutSeconds = 30;
const killAfterCancelSeconds = 45;
const maxWorkerOutput = 65_536;
const mebibyte = 1_048_576;

export interface JobEnd {
  readonly result: TaskResult;
  readonly exitCode: number | null;
}

export interface RunningJob {
  readonly jobId: string;
  readonly finished: Promise<JobEnd>;
  cancel(): void;
  shutDown(reason: "user" | "system"): void;
}

type Stop = "cancel" | "user" | "system" | "abandon";

export function dispatchJob(
  host: Host,
  broker: Broker,
  signals: Signals,
  message: Readonly<Record<string, unknown>>,
): RunningJob {
  const jobId = String(message["jobId"]);
  let worker: ChildProcess | null = null;
  let stop: Stop | null = null;

  const tellWorker = (type: string) => {
    const pipe = worker?.stdio[3] as Writable | undefined;
    pipe?.write(`${JSON.stringify({ type })}\n`);
  };
  const halt = (why: Stop) => {
    if (stop !== null) return;
    stop = why;
    host.log.info("JobDispatcher", `Send ${why} to the Worker of job ${jobId}.`);
    if (why === "user") tellWorker("RunnerShutdown");
    else if (why === "system") tellWorker("OperatingSystemShutdown");
    else {
      tellWorker("CancelRequest");
      // The floor is for small time factors: the Worker's own wind-down is partly unscaled work.
      const limitMs = Math.max(5_000, killAfterCancelSeconds * 1_000 * host.installation.timeFactor);
      setTimeout(() => worker?.kill("SIGKILL"), limitMs).unref();
    }
  };

  const perform = async (): Promise<JobEnd> => {
    const { terminal, installation, log } = host;
    const script = scriptOf(host, message);
    const displayName = String(message["jobDisplayName"]);
    if (script.ignoreInt) signals.ignoreInt();
    if (script.ignoreTerm) signals.ignoreTerm();
    terminal.timedLine(`Running job: ${displayName}`);
    const ended = new AbortController();
    const end = (result: TaskResult): JobEnd => ({ result, exitCode: script.exitAfterJob ?? null });
    try {
      await broker.renew(jobId);
    } catch {
      // The first renewal failing for good ends the job without a completion line.
      return end("Abandoned");
    }
    recordPerf("Runner", "JobRequestRenewed_0");
    if (stop !== null) return end("Canceled");
    recordPerf("Runner", "StartingWorkerProcess");
    worker = spawn(join(installation.root, "bin", "Runner.Worker"), ["spawnclient", "3", "4"], {
      cwd: installation.root,
      stdio: ["ignore", "pipe", "pipe", "pipe", "pipe"],
    });
    let output = "";
    for (const stream of [worker.stdout, worker.stderr]) {
      stream?.setEncoding("utf8").on("data", (text: string) => {
        output = (output + text).slice(0, maxWorkerOutput);
      });
    }
    for (const stream of worker.stdio) stream?.on("error", () => {});
    const exited = new Promise<number>((resolve) => {
      worker?.once("error", () => resolve(-1));
      worker?.once("close", (code) => resolve(code ?? -1));
    });

    if (script.noCompletionLine) {
      await installation.wait(sendTimeoutSeconds);
      worker.kill("SIGKILL");
      await exited;
      await broker.fail(jobId, "The job message could not be sent to the Worker.").catch(() => {});
      return end("Failed");
    }
    recordPerf("Runner", `RunnerSendingJobToWorker_${jobId}`);
    const pipe = worker.stdio[3] as Writable;
    pipe.write(`${JSON.stringify({ type: "NewJobRequest", body: message })}\n`);
    recordPerf("Runner", "SentJobToWorker_0");
    // A stop that arrived while the Worker started was told to nobody.
    if (stop !== null) tellWorker(stop === "cancel" ? "CancelRequest" : "RunnerShutdown");

    const renewing = renewUntil(host, broker, jobId, script, ended.signal, () => halt("abandon"));
    if (script.listenerDiesAfterSeconds !== undefined) {
      await installation.wait(script.listenerDiesAfterSeconds);
      process.kill(process.pid, "SIGKILL");
    }
    await flood(script.floodLines ?? 0);

    const code = await exited;
    ended.abort();
    await renewing;
    log.info("JobDispatcher", `Worker finished for job ${jobId}. Code: ${code}`);
    const result = judge(stop, code);
    log.info("JobDispatcher", `finish job request for job ${jobId} with result: ${result}`);
    terminal.timedLine(`Job ${displayName} completed with result: ${result}`);
    if (code < 100 || code > 105) {
      const reason = `Worker exited with code ${code}. ${output}`.trim();
      await broker.fail(jobId, reason).catch((error) => log.error("JobDispatcher", String(error)));
    }
    return end(result);
  };

  return { jobId, finished: perform(), cancel: () => halt("cancel"), shutDown: halt };
}

/** What stopped the job decides before the Worker's exit code, which is 100 + TaskResult or a crash. */
function judge(stop: Stop | null, code: number): TaskResult {
  if (stop === "abandon") return "Abandoned";
  if (stop !== null) return "Canceled";
  return taskResults[code - 100] ?? "Failed";
}

function scriptOf({ installation }: Host, message: Readonly<Record<string, unknown>>): JobScript {
  const standIn = message["standIn"] as { scenario: unknown; overrides: JobScript };
  const own = installation.scenario ?? "ok";
  const name = isScenarioName(standIn.scenario) ? standIn.scenario : own;
  const overrides = name === standIn.scenario ? {} : installation.overrides;
  return jobScript(name, { ...overrides, ...standIn.overrides });
}

async function renewUntil(
  host: Host,
  broker: Broker,
  jobId: string,
  script: JobScript,
  ended: AbortSignal,
  abandon: () => void,
): Promise<void> {
  let failures = 0;
  for (;;) {
    await host.installation.wait(failures === 0 ? renewSeconds : 10, ended);
    if (ended.aborted) return;
    try {
      if (script.renewalStops) throw new Error("The stand-in renews this job no more.");
      await broker.renew(jobId);
      failures = 0;
      host.log.info("JobDispatcher", `Successfully renew job ${jobId}, job is valid till later.`);
    } catch (error) {
      failures += 1;
      host.log.error("JobDispatcher", `Fail to renew job ${jobId}: ${String(error)}`);
      if (failures >= 5) {
        abandon();
        return;
      }
    }
  }
}

/** Trace lines as `ACTIONS_RUNNER_PRINT_LOG_TO_STDOUT` gives them, only longer. */
async function flood(lines: number): Promise<void> {
  const filler = "x".repeat(mebibyte);
  for (let written = 0; written < lines; written += 1) {
    process.stdout.write(`[WORKER ${timestamp()} INFO Flood] ${filler}\n`);
    await delay(0);
  }
}
