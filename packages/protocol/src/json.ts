import type {
  AnswerStage,
  Command,
  CommandAnswer,
  EventAck,
  Heartbeat,
  JobReport,
  JsonObject,
  RunnerReport,
  RunnerState,
  VmEvent,
  VmHealth,
} from "./messages.ts";
import {
  asObject,
  maybe,
  readBoolean,
  readNumber,
  readText,
  readTexts,
  readTimeMs,
  toJsonObject,
  type Unknown,
  WireError,
} from "./read-json.ts";

/**
 * Messages ⇄ the seeds' snake_case JSON (seed 000 "API Endpoints"; reference/go-agent-wire.md §2). Bodies of
 * existing agents lack ids and zero values; `about` then supplies what the URL and the clock know.
 */
export interface About {
  vmId: string;
  nowMs: number;
}

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;
const eventEnvelope = new Set([
  "type",
  "timestamp",
  "vm_id",
  "pool_id",
  "org_id",
  "event_id",
  "seq",
  "incarnation",
]);

export function eventToJson(event: VmEvent): JsonObject {
  return {
    ...event.data,
    type: event.type,
    timestamp: new Date(event.occurredAtMs).toISOString(),
    vm_id: event.vmId,
    pool_id: event.poolId,
    ...maybe("org_id", event.orgId),
    ...maybe("event_id", event.eventId),
    ...maybe("seq", event.seq),
    ...maybe("incarnation", event.incarnation),
  };
}

export function eventFromJson(body: unknown, about: About): VmEvent {
  const from = asObject(body);
  if (from === undefined) throw new WireError("an event is a JSON object");
  const type = readText(from, "type");
  if (type === undefined) throw new WireError("an event needs a type");
  const data = toJsonObject(from);
  for (const key of eventEnvelope) delete data[key];
  return {
    type,
    vmId: readText(from, "vm_id") ?? about.vmId,
    poolId: readText(from, "pool_id") ?? "",
    occurredAtMs: readTimeMs(from, "timestamp") ?? about.nowMs,
    data,
    ...maybe("orgId", readText(from, "org_id")),
    ...maybe("eventId", readText(from, "event_id")),
    ...maybe("seq", readSeq(from)),
    ...maybe("incarnation", readText(from, "incarnation")),
  };
}

function readSeq(from: Unknown): number | undefined {
  const seq = readNumber(from, "seq");
  if (seq === undefined) return undefined;
  if (!Number.isSafeInteger(seq) || seq < 1) throw new WireError("seq is a whole number from 1");
  return seq;
}

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

/** `command` repeats `type`: seed 000 asks for both keys. */
export function commandToJson(command: Command): JsonObject {
  return {
    id: command.id,
    type: command.type,
    command: command.type,
    parameters: command.parameters,
    created_at: new Date(command.createdAtMs).toISOString(),
    attempt: command.attempt,
    ...(command.expiresAtMs === undefined ? {} : { expires_at: new Date(command.expiresAtMs).toISOString() }),
  };
}

export function commandFromJson(body: unknown, nowMs: number): Command {
  const from = asObject(body);
  const id = from === undefined ? undefined : readText(from, "id");
  const type = from === undefined ? undefined : (readText(from, "type") ?? readText(from, "command"));
  if (from === undefined || id === undefined || type === undefined)
    throw new WireError("a command needs id and type");
  return {
    id,
    type,
    parameters: toJsonObject(from["parameters"]),
    createdAtMs: readTimeMs(from, "created_at") ?? nowMs,
    attempt: readNumber(from, "attempt") ?? 1,
    ...maybe("expiresAtMs", readTimeMs(from, "expires_at")),
  };
}

export function answerToJson(answer: CommandAnswer): JsonObject {
  return {
    command_id: answer.commandId,
    success: answer.success,
    ...maybe("stage", answer.stage),
    ...maybe("message", answer.message),
    ...maybe("result", answer.result),
  };
}

/** `status` is the seed 003 form: `{command_id, status: "processed"}`. */
export function answerFromJson(body: unknown, commandId?: string): CommandAnswer {
  const from = asObject(body) ?? {};
  const id = commandId ?? readText(from, "command_id");
  if (id === undefined) throw new WireError("an acknowledgement needs command_id");
  const status = readText(from, "status");
  const success =
    readBoolean(from, "success") ?? (status === undefined || !/^(failed|error|rejected)$/.test(status));
  return {
    commandId: id,
    success,
    ...maybe("stage", toStage(readText(from, "stage"))),
    ...maybe("message", readText(from, "message")),
    ...maybe("result", asObject(from["result"]) === undefined ? undefined : toJsonObject(from["result"])),
  };
}

export function toStage(text: string | undefined): AnswerStage | undefined {
  if (text === undefined || text === "received" || text === "result") return text;
  throw new WireError('stage is "received" or "result"');
}

export function eventAckToJson(ack: EventAck): JsonObject {
  return {
    incarnation: ack.incarnation,
    up_to_seq: ack.upToSeq,
    rejected: ack.rejected.map((r) => ({ ...r })),
  };
}

export function eventAckFromJson(body: unknown): EventAck {
  const from = asObject(body) ?? {};
  const rejected = Array.isArray(from["rejected"]) ? from["rejected"] : [];
  return {
    incarnation: readText(from, "incarnation") ?? "",
    upToSeq: readNumber(from, "up_to_seq") ?? 0,
    rejected: rejected.flatMap((item) => {
      const entry = asObject(item);
      const seq = entry === undefined ? undefined : readNumber(entry, "seq");
      if (entry === undefined || seq === undefined) return [];
      return [
        {
          seq,
          code: readText(entry, "code") ?? "",
          message: readText(entry, "message") ?? "",
          permanent: readBoolean(entry, "permanent") ?? false,
        },
      ];
    }),
  };
}
