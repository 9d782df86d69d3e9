import type { AnswerStage, Command, CommandAnswer, EventAck, JsonObject, VmEvent } from "./messages.ts";
import {
  type About,
  asObject,
  maybe,
  readBoolean,
  readNumber,
  readText,
  readTimeMs,
  toJsonObject,
  type Unknown,
  WireError,
} from "./read-json.ts";

/**
 * Messages ⇄ the seeds' snake_case JSON (seed 000 "API Endpoints"; reference/go-agent-wire.md §2). Bodies of
 * existing agents lack ids and zero values; `about` then supplies what the URL and the clock know.
 */

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
