import {
  MIGletMessage as ProtoAgentMessage,
  type Command as ProtoCommand,
  type CommandAck as ProtoCommandAck,
  ControllerMessage as ProtoControllerMessage,
  type EventNotification as ProtoEvent,
  type Heartbeat as ProtoHeartbeat,
} from "./gen/miglet/commands.ts";
import { percent, toRunnerState, toStage } from "./json.ts";
import type {
  AgentMessage,
  Command,
  CommandAnswer,
  ControllerMessage,
  Heartbeat,
  JsonObject,
  VmEvent,
} from "./messages.ts";
import { maybe, toJsonObject, WireError } from "./read-json.ts";

/**
 * Messages ⇄ protobuf (proto/miglet/commands.proto). What an existing agent or controller understands is always
 * filled in beside what MIG adds: the string map beside the payload, the typed parameters beside the object.
 */
export const AGENT_STREAM_PATH = "/miglet.commands.CommandService/StreamCommands";

export function encodeAgentMessage(message: AgentMessage): Uint8Array {
  return ProtoAgentMessage.encode({ message: agentToProto(message) }).finish();
}

export function encodeControllerMessage(message: ControllerMessage): Uint8Array {
  return ProtoControllerMessage.encode({ message: controllerToProto(message) }).finish();
}

/** Undefined for a message of a kind that this version does not know. */
export function decodeAgentMessage(bytes: Uint8Array, nowMs: number): AgentMessage | undefined {
  return agentFromProto(decode(() => ProtoAgentMessage.decode(bytes)).message, nowMs);
}

export function decodeControllerMessage(bytes: Uint8Array, nowMs: number): ControllerMessage | undefined {
  return controllerFromProto(decode(() => ProtoControllerMessage.decode(bytes)).message, nowMs);
}

function decode<T>(read: () => T): T {
  try {
    return read();
  } catch (cause) {
    throw new WireError("the bytes are not a message of proto/miglet/commands.proto", { cause });
  }
}

const seconds = (ms: number): number => Math.floor(ms / 1000);
const text = (value: string): string | undefined => (value === "" ? undefined : value);
/** A time that JSON and PostgreSQL can hold too: before the year 10000. */
const time = (ms: number): number | undefined => (ms > 0 && ms < 253_402_300_800_000 ? ms : undefined);
const positive = (value: number): number | undefined => (value > 0 ? value : undefined);

function agentToProto(message: AgentMessage): ProtoAgentMessage["message"] {
  switch (message.kind) {
    case "connect":
      return {
        $case: "connect",
        value: {
          vmId: message.connect.vmId,
          poolId: message.connect.poolId,
          orgId: message.connect.orgId ?? "",
          version: message.connect.version,
          incarnation: message.connect.incarnation ?? "",
          protocolVersion: message.connect.protocolVersion,
          migletState: message.connect.migletState ?? "",
        },
      };
    case "event":
      return { $case: "event", value: eventToProto(message.event) };
    case "heartbeat":
      return { $case: "heartbeat", value: heartbeatToProto(message.heartbeat) };
    case "ack":
      return { $case: "commandAck", value: answerToProto(message.answer) };
    case "error":
      return { $case: "error", value: { ...message.error, timestamp: seconds(message.error.atMs) } };
  }
}

function agentFromProto(message: ProtoAgentMessage["message"], nowMs: number): AgentMessage | undefined {
  switch (message?.$case) {
    case "connect": {
      const { vmId, poolId, version, orgId, incarnation, migletState, protocolVersion } = message.value;
      return {
        kind: "connect",
        connect: {
          vmId,
          poolId,
          version,
          protocolVersion,
          ...maybe("orgId", text(orgId)),
          ...maybe("incarnation", text(incarnation)),
          ...maybe("migletState", text(migletState)),
        },
      };
    }
    case "event":
      return { kind: "event", event: eventFromProto(message.value, nowMs) };
    case "heartbeat":
      return { kind: "heartbeat", heartbeat: heartbeatFromProto(message.value, nowMs) };
    case "commandAck":
      return { kind: "ack", answer: answerFromProto(message.value) };
    case "error":
      return { kind: "error", error: errorFromProto(message.value, nowMs) };
    default:
      return undefined;
  }
}

function controllerToProto(message: ControllerMessage): ProtoControllerMessage["message"] {
  switch (message.kind) {
    case "connect_ack":
      return { $case: "connectAck", value: message.reply };
    case "command":
      return { $case: "command", value: commandToProto(message.command) };
    case "event_ack":
      return { $case: "eventAck", value: message.ack };
    case "heartbeat_ack":
      return { $case: "heartbeatAck", value: message.reply };
    case "go_away":
      return { $case: "goAway", value: message.goAway };
    case "error":
      return { $case: "error", value: { ...message.error, timestamp: seconds(message.error.atMs) } };
  }
}

function controllerFromProto(
  message: ProtoControllerMessage["message"],
  nowMs: number,
): ControllerMessage | undefined {
  switch (message?.$case) {
    case "connectAck":
      return { kind: "connect_ack", reply: message.value };
    case "command":
      return { kind: "command", command: commandFromProto(message.value, nowMs) };
    case "eventAck":
      return { kind: "event_ack", ack: message.value };
    case "heartbeatAck":
      return { kind: "heartbeat_ack", reply: message.value };
    case "goAway":
      return { kind: "go_away", goAway: message.value };
    case "error":
      return { kind: "error", error: errorFromProto(message.value, nowMs) };
    default:
      return undefined;
  }
}

function errorFromProto(
  value: { code: string; message: string; details: Record<string, string>; timestamp: number },
  nowMs: number,
): { code: string; message: string; details: Record<string, string>; atMs: number } {
  const { code, message, details, timestamp } = value;
  return { code, message, details: { ...details }, atMs: time(timestamp * 1000) ?? nowMs };
}

function eventToProto(event: VmEvent): ProtoEvent {
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

function eventFromProto(value: ProtoEvent, nowMs: number): VmEvent {
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

function heartbeatToProto(beat: Heartbeat): ProtoHeartbeat {
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

function heartbeatFromProto(value: ProtoHeartbeat, nowMs: number): Heartbeat {
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

function commandToProto(command: Command): ProtoCommand {
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

function commandFromProto(value: ProtoCommand, nowMs: number): Command {
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

function answerToProto(answer: CommandAnswer): ProtoCommandAck {
  return {
    commandId: answer.commandId,
    success: answer.success,
    message: answer.message ?? "",
    result: toTextMap(answer.result ?? {}),
    stage: answer.stage ?? "",
    details: answer.result,
  };
}

function answerFromProto(value: ProtoCommandAck): CommandAnswer {
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
