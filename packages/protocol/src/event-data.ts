import { jobFromJson, jobToJson } from "./json-heartbeat.ts";
import type { JobReport, JsonObject, VmEvent } from "./messages.ts";
import { asObject, maybe, readBoolean, readNumber, readText, readTexts, readTimeMs } from "./read-json.ts";

/**
 * The data of each event type, with the keys of the seeds (000 R4.1; reference/go-agent-wire.md §2.1, §7) and
 * what MIG adds. `writeX` makes what an agent sends; `readX` takes what any agent sent.
 */
export interface RegisteredData {
  runnerName?: string;
  runnerId?: number;
  runnerUrl?: string;
  runnerGroup?: string;
  labels: string[];
  /** The register_runner command that led to it. */
  commandId?: string;
}

export const jobResults = ["succeeded", "failed", "cancelled", "unknown"] as const;
export type JobResult = (typeof jobResults)[number];

export interface JobData extends JobReport {
  jobName?: string;
  workflow?: string;
  runnerName?: string;
  runAttempt?: number;
}

/** What a job used: of its cgroup where it has one, else of the Worker's process tree as it was sampled. */
export interface JobUsage {
  cpuSeconds?: number;
  peakMemoryBytes?: number;
  diskWrittenBytes?: number;
}

export interface CompletedData extends JobData {
  result: JobResult;
  exitCode?: number;
  durationMs?: number;
  usage?: JobUsage;
}

/** The cloud takes the VM away at `deadlineMs`, as far as it said. */
export interface PreemptionData {
  cloud: string;
  /** The cloud's own word: preempted, terminate, stop, hibernate. */
  action: string;
  deadlineMs?: number;
}

export interface CrashedData {
  reason: string;
  exitCode?: number;
  signal?: string;
}

export interface ShutdownData {
  reason: string;
  exitCode?: number;
}

export interface ErrorData {
  code: string;
  category: string;
  message: string;
  /** The agent will stop because of it. */
  fatal: boolean;
}

/** Stands in the place of the events `fromSeq` … its own seq. */
export interface DroppedData {
  fromSeq: number;
  counts: Record<string, number>;
  reason: string;
}

export function writeJob(job: JobData): JsonObject {
  return {
    ...jobToJson(job),
    ...maybe("job_name", job.jobName),
    ...maybe("workflow", job.workflow),
    ...maybe("runner_name", job.runnerName),
    ...maybe("run_attempt", job.runAttempt),
  };
}

export function readJob(data: JsonObject): JobData {
  return {
    ...jobFromJson(data),
    ...maybe("jobName", readText(data, "job_name")),
    ...maybe("workflow", readText(data, "workflow")),
    ...maybe("runnerName", readText(data, "runner_name")),
    ...maybe("runAttempt", readNumber(data, "run_attempt")),
  };
}

/** `success` is the seeds' key; `result` says more. An agent that knows neither leaves the result unknown. */
export function writeCompleted(job: CompletedData): JsonObject {
  return {
    ...writeJob(job),
    result: job.result,
    success: job.result === "succeeded",
    ...maybe("exit_code", job.exitCode),
    ...(job.durationMs === undefined ? {} : { duration: job.durationMs / 1000, duration_ms: job.durationMs }),
    ...maybe("cpu_seconds", job.usage?.cpuSeconds),
    ...maybe("peak_memory_bytes", job.usage?.peakMemoryBytes),
    ...maybe("disk_written_bytes", job.usage?.diskWrittenBytes),
  };
}

function readUsage(data: JsonObject): JobUsage | undefined {
  const usage: JobUsage = {
    ...maybe("cpuSeconds", readNumber(data, "cpu_seconds")),
    ...maybe("peakMemoryBytes", readNumber(data, "peak_memory_bytes")),
    ...maybe("diskWrittenBytes", readNumber(data, "disk_written_bytes")),
  };
  return Object.keys(usage).length === 0 ? undefined : usage;
}

export function writePreemption({ cloud, action, deadlineMs }: PreemptionData): JsonObject {
  return {
    cloud,
    action,
    ...maybe("deadline", deadlineMs === undefined ? undefined : new Date(deadlineMs).toISOString()),
  };
}

export function readPreemption(data: JsonObject): PreemptionData {
  return {
    cloud: readText(data, "cloud") ?? "",
    action: readText(data, "action") ?? "",
    ...maybe("deadlineMs", readTimeMs(data, "deadline")),
  };
}

export function readCompleted(data: JsonObject): CompletedData {
  return {
    ...readJob(data),
    result: readResult(data),
    ...maybe("exitCode", readNumber(data, "exit_code")),
    ...maybe("durationMs", readNumber(data, "duration_ms")),
    ...maybe("usage", readUsage(data)),
  };
}

function readResult(data: JsonObject): JobResult {
  const said = readText(data, "result");
  const known = jobResults.find((result) => result === said);
  if (known !== undefined) return known;
  const success = readBoolean(data, "success");
  return success === undefined ? "unknown" : success ? "succeeded" : "failed";
}

export function writeRegistered(runner: RegisteredData): JsonObject {
  return {
    labels: runner.labels,
    ...maybe("runner_name", runner.runnerName),
    ...maybe("runner_id", runner.runnerId),
    ...maybe("runner_url", runner.runnerUrl),
    ...maybe("runner_group", runner.runnerGroup),
    ...maybe("command_id", runner.commandId),
  };
}

export function readRegistered(data: JsonObject): RegisteredData {
  return {
    labels: readTexts(data, "labels") ?? [],
    ...maybe("runnerName", readText(data, "runner_name")),
    ...maybe("runnerId", readNumber(data, "runner_id")),
    ...maybe("runnerUrl", readText(data, "runner_url")),
    ...maybe("runnerGroup", readText(data, "runner_group")),
    ...maybe("commandId", readText(data, "command_id")),
  };
}

export function writeCrashed(crash: CrashedData): JsonObject {
  return {
    reason: crash.reason,
    ...maybe("exit_code", crash.exitCode),
    ...maybe("signal", crash.signal),
    metadata: { error: crash.reason },
  };
}

export function readCrashed(data: JsonObject): CrashedData {
  const metadata = asObject(data["metadata"]) ?? {};
  return {
    reason: readText(data, "reason") ?? readText(metadata, "error") ?? "unknown",
    ...maybe("exitCode", readNumber(data, "exit_code")),
    ...maybe("signal", readText(data, "signal")),
  };
}

export function readError(data: JsonObject): ErrorData {
  return {
    code: readText(data, "code") ?? "unknown",
    category: readText(data, "category") ?? "permanent",
    message: readText(data, "message") ?? "",
    fatal: readBoolean(data, "fatal") ?? true,
  };
}

export function readReason(data: JsonObject): ShutdownData {
  return {
    reason: readText(data, "reason") ?? "unknown",
    ...maybe("exitCode", readNumber(data, "exit_code")),
  };
}

export function writeDropped(dropped: DroppedData): JsonObject {
  return { from_seq: dropped.fromSeq, counts: dropped.counts, reason: dropped.reason };
}

/** The first sequence number that an event stands for: its own, except for `events_dropped`. */
export function firstSeqOf(event: VmEvent): number | undefined {
  if (event.type !== "events_dropped") return event.seq;
  const from = readNumber(event.data, "from_seq");
  return from !== undefined && Number.isSafeInteger(from) && from >= 1
    ? Math.min(from, event.seq ?? from)
    : event.seq;
}
