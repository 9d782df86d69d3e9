import {
  answerFromJson,
  answerToJson,
  commandFromJson,
  commandToJson,
  eventAckFromJson,
  eventAckToJson,
  eventFromJson,
  eventToJson,
} from "./json.ts";
import { heartbeatFromJson, heartbeatToJson } from "./json-heartbeat.ts";
import type {
  AgentMessage,
  Connect,
  ConnectReply,
  ControllerMessage,
  ErrorNotice,
  JsonObject,
} from "./messages.ts";
import {
  type About,
  asObject,
  maybe,
  readBoolean,
  readNumber,
  readText,
  readTimeMs,
  type Unknown,
  WireError,
} from "./read-json.ts";

/**
 * Whole messages ⇄ JSON, for channels that carry every kind on one socket (WebSocket; DESIGN §8). Each has
 * `kind`; a message without `kind` but with `command_id` is an acknowledgement, as seed 003 sends it.
 */
export function agentMessageToJson(message: AgentMessage): JsonObject {
  switch (message.kind) {
    case "connect":
      return { kind: "connect", ...connectToJson(message.connect) };
    case "event":
      return { ...eventToJson(message.event), kind: "event" };
    case "heartbeat":
      return { ...heartbeatToJson(message.heartbeat), kind: "heartbeat" };
    case "ack":
      return { kind: "ack", ...answerToJson(message.answer) };
    case "error":
      return { kind: "error", ...errorToJson(message.error) };
  }
}

export function agentMessageFromJson(body: unknown, about: About): AgentMessage {
  const from = asObject(body);
  if (from === undefined) throw new WireError("a message is a JSON object");
  const { kind, ...rest } = from;
  switch (kind ?? (from["command_id"] === undefined ? undefined : "ack")) {
    case "connect":
      return { kind: "connect", connect: connectFromJson(rest, about) };
    case "event":
      return { kind: "event", event: eventFromJson(rest, about) };
    case "heartbeat":
      return { kind: "heartbeat", heartbeat: heartbeatFromJson(rest, about) };
    case "ack":
      return { kind: "ack", answer: answerFromJson(rest) };
    case "error":
      return { kind: "error", error: errorFromJson(rest, about.nowMs) };
    default:
      throw new WireError("kind is one of connect, event, heartbeat, ack, error");
  }
}

export function controllerMessageToJson(message: ControllerMessage): JsonObject {
  switch (message.kind) {
    case "connect_ack":
      return { kind: "connect_ack", ...connectReplyToJson(message.reply) };
    case "command":
      return { kind: "command", ...commandToJson(message.command) };
    case "event_ack":
      return { kind: "event_ack", ...eventAckToJson(message.ack) };
    case "heartbeat_ack":
      return {
        kind: "heartbeat_ack",
        next_interval_ms: message.reply.nextIntervalMs,
        server_time_ms: message.reply.serverTimeMs,
      };
    case "go_away":
      return {
        kind: "go_away",
        reason: message.goAway.reason,
        reconnect_after_ms: message.goAway.reconnectAfterMs,
        deadline_ms: message.goAway.deadlineMs,
      };
    case "error":
      return { kind: "error", ...errorToJson(message.error) };
  }
}

export function controllerMessageFromJson(body: unknown, nowMs: number): ControllerMessage {
  const from = asObject(body);
  if (from === undefined) throw new WireError("a message is a JSON object");
  switch (from["kind"] ?? (from["id"] === undefined ? undefined : "command")) {
    case "connect_ack":
      return { kind: "connect_ack", reply: connectReplyFromJson(from) };
    case "command":
      return { kind: "command", command: commandFromJson(from, nowMs) };
    case "event_ack":
      return { kind: "event_ack", ack: eventAckFromJson(from) };
    case "heartbeat_ack":
      return {
        kind: "heartbeat_ack",
        reply: {
          nextIntervalMs: number(from, "next_interval_ms"),
          serverTimeMs: number(from, "server_time_ms"),
        },
      };
    case "go_away":
      return {
        kind: "go_away",
        goAway: {
          reason: readText(from, "reason") ?? "",
          reconnectAfterMs: number(from, "reconnect_after_ms"),
          deadlineMs: number(from, "deadline_ms"),
        },
      };
    case "error":
      return { kind: "error", error: errorFromJson(from, nowMs) };
    default:
      throw new WireError("kind is one of connect_ack, command, event_ack, heartbeat_ack, go_away, error");
  }
}

export function connectToJson(connect: Connect): JsonObject {
  return {
    vm_id: connect.vmId,
    pool_id: connect.poolId,
    version: connect.version,
    protocol_version: connect.protocolVersion,
    ...maybe("org_id", connect.orgId),
    ...maybe("incarnation", connect.incarnation),
    ...maybe("miglet_state", connect.migletState),
  };
}

export function connectFromJson(from: Unknown, about: About): Connect {
  return {
    vmId: readText(from, "vm_id") ?? about.vmId,
    poolId: readText(from, "pool_id") ?? "",
    version: readText(from, "version") ?? "",
    protocolVersion: number(from, "protocol_version"),
    ...maybe("orgId", readText(from, "org_id")),
    ...maybe("incarnation", readText(from, "incarnation")),
    ...maybe("migletState", readText(from, "miglet_state")),
  };
}

function connectReplyToJson(reply: ConnectReply): JsonObject {
  return {
    accepted: reply.accepted,
    message: reply.message,
    server_version: reply.serverVersion,
    epoch: reply.epoch,
    protocol_version: reply.protocolVersion,
    heartbeat_interval_ms: reply.heartbeatIntervalMs,
    acked_seq: reply.ackedSeq,
    server_time_ms: reply.serverTimeMs,
  };
}

function connectReplyFromJson(from: Unknown): ConnectReply {
  return {
    accepted: readBoolean(from, "accepted") ?? false,
    message: readText(from, "message") ?? "",
    serverVersion: readText(from, "server_version") ?? "",
    epoch: number(from, "epoch"),
    protocolVersion: number(from, "protocol_version"),
    heartbeatIntervalMs: number(from, "heartbeat_interval_ms"),
    ackedSeq: number(from, "acked_seq"),
    serverTimeMs: number(from, "server_time_ms"),
  };
}

function errorToJson(error: ErrorNotice): JsonObject {
  return {
    code: error.code,
    message: error.message,
    details: { ...error.details },
    timestamp: new Date(error.atMs).toISOString(),
  };
}

function errorFromJson(from: Unknown, nowMs: number): ErrorNotice {
  const details: Record<string, string> = {};
  for (const [key, value] of Object.entries(asObject(from["details"]) ?? {})) {
    if (typeof value === "string" && key !== "__proto__") details[key] = value;
  }
  return {
    code: readText(from, "code") ?? "",
    message: readText(from, "message") ?? "",
    details,
    atMs: readTimeMs(from, "timestamp") ?? nowMs,
  };
}

function number(from: Unknown, key: string): number {
  return readNumber(from, key) ?? 0;
}
