import {
  MIGletMessage as ProtoAgentMessage,
  ControllerMessage as ProtoControllerMessage,
} from "./gen/miglet/commands.ts";
import type { AgentMessage, ControllerMessage } from "./messages.ts";
import {
  answerFromProto,
  answerToProto,
  commandFromProto,
  commandToProto,
  errorFromProto,
  errorToProto,
  eventFromProto,
  eventToProto,
  heartbeatFromProto,
  heartbeatToProto,
  text,
} from "./proto-parts.ts";
import { maybe, WireError } from "./read-json.ts";

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
      return { $case: "error", value: errorToProto(message.error) };
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
      return { $case: "error", value: errorToProto(message.error) };
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
