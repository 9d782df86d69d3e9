import type { Heartbeat, JobReport, JsonObject, RunnerReport, RunnerState, VmHealth } from "./messages.ts";
import {
  type About,
  asObject,
  maybe,
  readBoolean,
  readNumber,
  readText,
  readTexts,
  readTimeMs,
  type Unknown,
  WireError,
} from "./read-json.ts";

/** Heartbeats and what is in them ⇄ the seeds' JSON (seed 000 R5.2; reference/go-agent-wire.md §2.2). */
const MIB = 1024 * 1024;
const GIB = 1024 * MIB;

export function heartbeatToJson(beat: Heartbeat): JsonObject {
  return {
    type: "job_heartbeat",
    timestamp: new Date(beat.sentAtMs).toISOString(),
    vm_id: beat.vmId,
    pool_id: beat.poolId,
    ...maybe("org_id", beat.orgId),
    ...maybe("incarnation", beat.incarnation),
    ...maybe("miglet_state", beat.migletState),
    ...(beat.health === undefined ? {} : { vm_health: healthToJson(beat.health) }),
    ...(beat.runner === undefined
      ? {}
      : { runner_state: beat.runner.state, runner: runnerToJson(beat.runner) }),
    ...(beat.currentJob === undefined ? {} : { current_job: jobToJson(beat.currentJob) }),
  };
}

export function heartbeatFromJson(body: unknown, about: About): Heartbeat {
  const from = asObject(body);
  if (from === undefined) throw new WireError("a heartbeat is a JSON object");
  const health = asObject(from["vm_health"]);
  const job = asObject(from["current_job"]);
  return {
    vmId: readText(from, "vm_id") ?? about.vmId,
    poolId: readText(from, "pool_id") ?? "",
    sentAtMs: readTimeMs(from, "timestamp") ?? about.nowMs,
    ...maybe("orgId", readText(from, "org_id")),
    ...maybe("incarnation", readText(from, "incarnation")),
    ...maybe("migletState", readText(from, "miglet_state")),
    ...maybe("health", health === undefined ? undefined : healthFromJson(health)),
    ...maybe("runner", readRunner(from)),
    ...maybe("currentJob", job === undefined ? undefined : jobFromJson(job)),
  };
}

/** The seeds' keys carry MB and GB; ours, in bytes and per cent, stand beside them and win when read. */
export function healthToJson(health: VmHealth): JsonObject {
  return {
    cpu_load: health.cpuLoad,
    memory_used: Math.round(health.memoryUsedBytes / MIB),
    memory_total: Math.round(health.memoryTotalBytes / MIB),
    disk_used: Math.round(health.diskUsedBytes / GIB),
    disk_total: Math.round(health.diskTotalBytes / GIB),
    cpu_usage_percent: health.cpuUsagePercent,
    memory_used_bytes: health.memoryUsedBytes,
    memory_total_bytes: health.memoryTotalBytes,
    disk_used_bytes: health.diskUsedBytes,
    disk_total_bytes: health.diskTotalBytes,
    memory_usage_percent: percent(health.memoryUsedBytes, health.memoryTotalBytes),
    disk_usage_percent: percent(health.diskUsedBytes, health.diskTotalBytes),
    ...maybe("network_received_bytes", health.networkReceivedBytes),
    ...maybe("network_sent_bytes", health.networkSentBytes),
  };
}

export function healthFromJson(from: Unknown): VmHealth {
  const read = (key: string): number => Math.max(0, readNumber(from, key) ?? 0);
  const bytes = (exact: string, coarse: string, unit: number): number =>
    from[exact] === undefined ? read(coarse) * unit : read(exact);
  return {
    cpuUsagePercent: read("cpu_usage_percent"),
    cpuLoad: read("cpu_load"),
    memoryUsedBytes: bytes("memory_used_bytes", "memory_used", MIB),
    memoryTotalBytes: bytes("memory_total_bytes", "memory_total", MIB),
    diskUsedBytes: bytes("disk_used_bytes", "disk_used", GIB),
    diskTotalBytes: bytes("disk_total_bytes", "disk_total", GIB),
    ...maybe("networkReceivedBytes", readNumber(from, "network_received_bytes")),
    ...maybe("networkSentBytes", readNumber(from, "network_sent_bytes")),
  };
}

export function percent(used: number, total: number): number {
  return total <= 0 ? 0 : Math.round((used / total) * 1000) / 10;
}

function runnerToJson(runner: RunnerReport): JsonObject {
  return {
    state: runner.state,
    configured: runner.configured,
    labels: runner.labels,
    ...maybe("runner_name", runner.name),
  };
}

/** `runner_state` is a bare word over HTTP, an object in some test scripts; ours adds the object as `runner`. */
function readRunner(from: Unknown): RunnerReport | undefined {
  const whole = asObject(from["runner"]) ?? asObject(from["runner_state"]) ?? {};
  const state = toRunnerState(readText(whole, "state") ?? readText(from, "runner_state"));
  if (state === undefined) return undefined;
  return {
    state,
    configured: readBoolean(whole, "configured") ?? false,
    labels: readTexts(whole, "labels") ?? [],
    ...maybe("name", readText(whole, "runner_name")),
  };
}

export function toRunnerState(text: string | undefined): RunnerState | undefined {
  return text === "idle" || text === "running" || text === "offline" ? text : undefined;
}

export function jobToJson(job: JobReport): JsonObject {
  return {
    job_id: job.jobId,
    run_id: job.runId,
    ...maybe("repository", job.repository),
    ...maybe("branch", job.branch),
    ...maybe("commit", job.commit),
    ...maybe("status", job.status),
    ...(job.startedAtMs === undefined ? {} : { started_at: new Date(job.startedAtMs).toISOString() }),
  };
}

export function jobFromJson(from: Unknown): JobReport {
  return {
    jobId: readText(from, "job_id") ?? "",
    runId: readText(from, "run_id") ?? "",
    ...maybe("repository", readText(from, "repository")),
    ...maybe("branch", readText(from, "branch")),
    ...maybe("commit", readText(from, "commit")),
    ...maybe("status", readText(from, "status")),
    ...maybe("startedAtMs", readTimeMs(from, "started_at")),
  };
}
