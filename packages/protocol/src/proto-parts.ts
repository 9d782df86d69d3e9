import type {
  ErrorNotification,
  Command as ProtoCommand,
  CommandAck as ProtoCommandAck,
  EventNotification as ProtoEvent,
  Heartbeat as ProtoHeartbeat,
} from "./gen/miglet/commands.ts";
import { toStage } from "./json.ts";
import { percent, toRunnerState } from "./json-heartbeat.ts";
import type { Command, CommandAnswer, ErrorNotice, Heartbeat, JsonObject, VmEvent } from "./messages.ts";
import { maybe, toJsonObject } from "./read-json.ts";

/** The parts of messages ⇄ protobuf. proto3 cannot tell an empty text or a zero from an absent one. */
const seconds = (ms: number): number => Math.floor(ms / 1000);
export const text = (value: string): string | undefined => (value === "" ? undefined : value);
/** A time that JSON and PostgreSQL can hold too: before the year 10000. */
const time = (ms: number): number | undefined => (ms > 0 && ms < 253_402_300_800_000 ? ms : undefined);
const positive = (value: number): number | undefined => (value > 0 ? value : undefined);

export function errorToProto(error: ErrorNotice): ErrorNotification {
  return { code: error.code, message: error.message, details: error.details, timestamp: seconds(error.atMs) };
}

export function errorFromProto(value: ErrorNotification, nowMs: number): ErrorNotice {
  const { code, message, details, timestamp } = value;
  return { code, message, details: { ...details }, atMs: time(timestamp * 1000) ?? nowMs };
}

export function eventToProto(event: VmEvent): ProtoEvent {
  return {
    type: event.type,
    vmId: event.vmId,
    poolId: event.poolId,
    orgId: event.orgId ?? "",
    data: toTextMap(event.data),
    timestamp: seconds(event.occurredAtMs),
    eventId: event.eventId ?? "",
    seq: event.seq ?? 0,
    incarnation: event.incarnation ?? "",
    occurredAtMs: event.occurredAtMs,
    payload: event.data,
  };
}

export function eventFromProto(value: ProtoEvent, nowMs: number): VmEvent {
  const occurredAtMs = time(value.occurredAtMs) ?? time(value.timestamp * 1000) ?? nowMs;
  return {
    type: value.type,
    vmId: value.vmId,
    poolId: value.poolId,
    occurredAtMs,
    data: toJsonObject(value.payload ?? value.data),
    ...maybe("orgId", text(value.orgId)),
    ...maybe("eventId", text(value.eventId)),
    ...maybe("seq", positive(value.seq)),
    ...maybe("incarnation", text(value.incarnation)),
  };
}

export function heartbeatToProto(beat: Heartbeat): ProtoHeartbeat {
  const { health, runner, currentJob: job } = beat;
  return {
    vmId: beat.vmId,
    poolId: beat.poolId,
    orgId: beat.orgId ?? "",
    health:
      health === undefined
        ? undefined
        : {
            ...health,
            memoryUsagePercent: percent(health.memoryUsedBytes, health.memoryTotalBytes),
            diskUsagePercent: percent(health.diskUsedBytes, health.diskTotalBytes),
          },
    runnerState:
      runner === undefined
        ? undefined
        : {
            state: runner.state,
            configured: runner.configured,
            runnerName: runner.name ?? "",
            labels: runner.labels,
          },
    currentJob:
      job === undefined
        ? undefined
        : {
            jobId: job.jobId,
            runId: job.runId,
            repository: job.repository ?? "",
            branch: job.branch ?? "",
            commit: job.commit ?? "",
            status: job.status ?? "",
            startedAt: seconds(job.startedAtMs ?? 0),
          },
    timestamp: seconds(beat.sentAtMs),
    migletState: beat.migletState ?? "",
    incarnation: beat.incarnation ?? "",
    sentAtMs: beat.sentAtMs,
  };
}

export function heartbeatFromProto(value: ProtoHeartbeat, nowMs: number): Heartbeat {
  const { health, runnerState: runner, currentJob: job } = value;
  const state = toRunnerState(runner?.state);
  return {
    vmId: value.vmId,
    poolId: value.poolId,
    sentAtMs: time(value.sentAtMs) ?? time(value.timestamp * 1000) ?? nowMs,
    ...maybe("orgId", text(value.orgId)),
    ...maybe("incarnation", text(value.incarnation)),
    ...maybe("migletState", text(value.migletState)),
    ...(health === undefined
      ? {}
      : {
          health: {
            cpuUsagePercent: health.cpuUsagePercent,
            cpuLoad: health.cpuLoad,
            memoryUsedBytes: health.memoryUsedBytes,
            memoryTotalBytes: health.memoryTotalBytes,
            diskUsedBytes: health.diskUsedBytes,
            diskTotalBytes: health.diskTotalBytes,
            ...maybe("networkReceivedBytes", health.networkReceivedBytes),
            ...maybe("networkSentBytes", health.networkSentBytes),
          },
        }),
    ...(runner === undefined || state === undefined
      ? {}
      : {
          runner: {
            state,
            configured: runner.configured,
            labels: runner.labels,
            ...maybe("name", text(runner.runnerName)),
          },
        }),
    ...(job === undefined
      ? {}
      : {
          currentJob: {
            jobId: job.jobId,
            runId: job.runId,
            ...maybe("repository", text(job.repository)),
            ...maybe("branch", text(job.branch)),
            ...maybe("commit", text(job.commit)),
            ...maybe("status", text(job.status)),
            ...maybe("startedAtMs", time(job.startedAt * 1000)),
          },
        }),
  };
}

export function commandToProto(command: Command): ProtoCommand {
  const stringParams: Record<string, string> = {};
  const intParams: Record<string, number> = {};
  const boolParams: Record<string, boolean> = {};
  let stringArrayParams: string[] = [];
  for (const [key, value] of Object.entries(command.parameters)) {
    if (typeof value === "string") stringParams[key] = value;
    else if (typeof value === "boolean") boolParams[key] = value;
    else if (typeof value === "number" && Number.isSafeInteger(value)) intParams[key] = value;
    else if (key === "labels" && Array.isArray(value)) {
      stringArrayParams = value.filter((item): item is string => typeof item === "string");
    }
  }
  return {
    id: command.id,
    type: command.type,
    stringParams,
    intParams,
    boolParams,
    stringArrayParams,
    createdAt: seconds(command.createdAtMs),
    parameters: command.parameters,
    expiresAtMs: command.expiresAtMs ?? 0,
    attempt: command.attempt,
    createdAtMs: command.createdAtMs,
  };
}

export function commandFromProto(value: ProtoCommand, nowMs: number): Command {
  const typed = {
    ...value.stringParams,
    ...value.intParams,
    ...value.boolParams,
    ...(value.stringArrayParams.length > 0 ? { labels: value.stringArrayParams } : {}),
  };
  return {
    id: value.id,
    type: value.type,
    parameters: toJsonObject(value.parameters ?? typed),
    createdAtMs: time(value.createdAtMs) ?? time(value.createdAt * 1000) ?? nowMs,
    attempt: Math.max(1, value.attempt),
    ...maybe("expiresAtMs", time(value.expiresAtMs)),
  };
}

export function answerToProto(answer: CommandAnswer): ProtoCommandAck {
  return {
    commandId: answer.commandId,
    success: answer.success,
    message: answer.message ?? "",
    result: toTextMap(answer.result ?? {}),
    stage: answer.stage ?? "",
    details: answer.result,
  };
}

export function answerFromProto(value: ProtoCommandAck): CommandAnswer {
  const result = value.details ?? (Object.keys(value.result).length > 0 ? value.result : undefined);
  return {
    commandId: value.commandId,
    success: value.success,
    ...maybe("stage", toStage(text(value.stage))),
    ...maybe("message", text(value.message)),
    ...maybe("result", result === undefined ? undefined : toJsonObject(result)),
  };
}

/** What an existing peer can read of an object: its scalars, as text. */
function toTextMap(data: JsonObject): Record<string, string> {
  const out: Record<string, string> = {};
  for (const [key, value] of Object.entries(data)) {
    if (value !== null && typeof value !== "object") out[key] = String(value);
  }
  return out;
}
