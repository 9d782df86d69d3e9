import { crc32 } from "node:zlib";
import { uuid7 } from "@mig/kit";
import { asObject, firstSeqOf, type JsonObject, type VmEvent, writeDropped } from "@mig/protocol";

/**
 * One event on disk is one line: eight hex digits of CRC-32, a blank, JSON. A line is found again after any damage
 * before it, because JSON never contains a raw newline.
 */
export function encodeRecord(event: VmEvent & { seq: number }): Buffer {
  const json = Buffer.from(JSON.stringify(event));
  return Buffer.concat([Buffer.from(`${crcOf(json)} `), json, newline]);
}

/** The event of a line without its newline; undefined when the line is damaged. */
export function decodeRecord(line: Uint8Array): SpooledEvent | undefined {
  const bytes = Buffer.from(line.buffer, line.byteOffset, line.byteLength);
  if (bytes.length < 11 || bytes[8] !== 0x20) return undefined;
  const json = bytes.subarray(9);
  if (bytes.toString("latin1", 0, 8) !== crcOf(json)) return undefined;
  try {
    return asSpooled(JSON.parse(json.toString("utf8")));
  } catch {
    return undefined;
  }
}

export type SpooledEvent = VmEvent & { seq: number };

const newline = Buffer.from("\n");
const crcOf = (bytes: Uint8Array): string => crc32(bytes).toString(16).padStart(8, "0");

/** The checksum vouches for the content, so only what other code relies on is looked at. */
function asSpooled(value: unknown): SpooledEvent | undefined {
  const from = asObject(value);
  if (from === undefined || typeof from["type"] !== "string" || !Number.isSafeInteger(from["seq"]))
    return undefined;
  if (typeof from["vmId"] !== "string" || asObject(from["data"]) === undefined) return undefined;
  return value as SpooledEvent;
}

/**
 * What goes first when the outbox is full (reliability-security §2.1). 0 is a stand-in for events that are already
 * gone and is only ever merged; the last rank goes only when its own reserve is used up too.
 */
export const ranks = { dropped: 0, job_heartbeat: 1, error: 2, other: 3, critical: 4 } as const;

const critical = new Set([
  "runner_registered",
  "job_started",
  "job_completed",
  "runner_crashed",
  "vm_started",
  "vm_shutting_down",
  "vm_terminated",
  "spool_degraded",
  "preemption_notice",
]);

export function rankOf({ type, data }: Pick<VmEvent, "type" | "data">): number {
  if (type === "events_dropped") return ranks.dropped;
  if (type === "job_heartbeat") return ranks.job_heartbeat;
  // One that ends the agent is no diagnostic: it moves the VM to another state.
  if (type === "error") return data["fatal"] === true ? ranks.critical : ranks.error;
  return critical.has(type) ? ranks.critical : ranks.other;
}

/** Synced to the disk before anybody hears that it was recorded. */
export function isCritical(event: Pick<VmEvent, "type" | "data">): boolean {
  return rankOf(event) === ranks.critical;
}

/** `events_dropped` in the place of these adjacent events, which may be stand-ins themselves. */
export function standIn(events: readonly SpooledEvent[], reason: string): SpooledEvent | undefined {
  const first = events[0];
  const last = events.at(-1);
  if (first === undefined || last === undefined) return undefined;
  const counts: Record<string, number> = {};
  const count = (type: string, n: number): void => {
    counts[type] = (counts[type] ?? 0) + n;
  };
  for (const event of events) {
    if (event.type !== "events_dropped") count(event.type, 1);
    else for (const [type, n] of Object.entries(countsOf(event.data))) count(type, n);
  }
  return dropped(last, firstSeqOf(first) ?? first.seq, last.seq, counts, reason);
}

/** `events_dropped` for numbers whose content nobody knows any more. */
export function standInForRange(like: VmEvent, from: number, to: number, reason: string): SpooledEvent {
  return dropped(like, from, to, { unknown: to - from + 1 }, reason);
}

function dropped(
  like: VmEvent,
  fromSeq: number,
  seq: number,
  counts: Record<string, number>,
  reason: string,
): SpooledEvent {
  return {
    ...like,
    type: "events_dropped",
    seq,
    eventId: uuid7(),
    data: writeDropped({ fromSeq, counts, reason }),
  };
}

function countsOf(data: JsonObject): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const [type, n] of Object.entries(asObject(data["counts"]) ?? {}))
    if (typeof n === "number") counts[type] = n;
  return counts;
}
