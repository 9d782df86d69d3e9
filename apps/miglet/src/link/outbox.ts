import { appendFile, stat } from "node:fs/promises";
import { type Clock, createBackoff, type Log, pause, systemClock, uuid7 } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import {
  type EventAck,
  type EventRejection,
  type EventType,
  firstSeqOf,
  type JsonObject,
  limits,
  maybe,
  type VmEvent,
} from "@mig/protocol";
import type { Said } from "../memory/said.ts";
import type { Spool } from "../memory/spool.ts";
import { standInForRange } from "../memory/spool-record.ts";
import type { Speaker } from "./link.ts";

export interface OutboxSettings {
  speaker: Speaker;
  spool: Spool;
  said?: Said;
  /** Spools of earlier incarnations that were not delivered; sent first, oldest first. */
  leftovers?: readonly Spool[];
  /** `ChosenLink.sendEvents`. */
  send(events: readonly VmEvent[]): Promise<EventAck>;
  /** The trace that an event belongs to, as `traceparent` says it. */
  traceOf?(eventId: string): string;
  /** Where permanently refused events are kept, up to a mebibyte. */
  deadLetterPath: string;
  retryFirstMs?: number;
  retryCapMs?: number;
  log: Log;
  clock?: Clock;
}

/**
 * Sends what the spool holds: in order, one batch in flight, until the controller has acknowledged it.
 *
 * empty    waits for an event
 * sending  a batch is under way; what is acknowledged leaves the spool, what is refused for good goes to the
 *          dead-letter file
 * waiting  the batch failed or was only partly taken; a windowed backoff or the server's hint runs, and a channel
 *          that opens cuts it short
 */
export interface Outbox {
  /**
   * The event has a seq and is in the spool (on disk for the critical types) when this resolves. One that a life
   * tells once and that was told before, by this process or one before it, keeps its number and is not told again.
   */
  append(type: EventType, data: JsonObject): Promise<VmEvent & { seq: number }>;
  pending(): number;
  isAcknowledged(seq: number): boolean;
  /** Resolves true when every event up to `seq` is acknowledged, false at the deadline, by the signal or when closed. */
  whenAcknowledged(seq: number, withinMs?: number, signal?: AbortSignal): Promise<boolean>;
  /** Tries now and until everything is acknowledged; false at the deadline. */
  flush(deadlineMs: number): Promise<boolean>;
  /** A channel opened: try at once, do not wait for the backoff. */
  wake(): void;
  close(): Promise<void>;
}

const batchBytesMax = 512 * 1024;
const deadLetterBytesMax = 1024 * 1024;

export function createOutbox(settings: OutboxSettings): Outbox {
  const { speaker, spool, send, log, clock = systemClock } = settings;
  const spools = [...(settings.leftovers ?? []), spool];
  const backoff = createBackoff({
    firstMs: settings.retryFirstMs ?? 1000,
    capMs: settings.retryCapMs ?? 15_000,
  });
  const closing = new AbortController();
  const waiters = new Set<() => void>();
  let nudge = new AbortController();

  const append = async (type: EventType, data: JsonObject): Promise<VmEvent & { seq: number }> => {
    const eventId = uuid7(clock.nowMs());
    const traceparent = settings.traceOf?.(eventId);
    const draft = {
      type,
      vmId: speaker.vmId,
      poolId: speaker.poolId,
      ...maybe("orgId", speaker.orgId),
      incarnation: speaker.incarnation,
      eventId,
      occurredAtMs: clock.nowMs(),
      data: { ...boundData(data), ...maybe("traceparent", traceparent) },
    };
    const toldAs = settings.said?.find(type, data);
    if (toldAs !== undefined) {
      log.info({ type, seq: toldAs }, "An event was told before and is not told again.");
      return { ...draft, seq: toldAs };
    }
    const event = await spool.append(
      draft,
      (seq) => settings.said?.note(type, data, seq) ?? Promise.resolve(),
    );
    await tellOfSpool();
    wake();
    return event;
  };

  /** What the spool met; told when there is a next event, or when the disk turns. */
  const tellOfSpool = async (): Promise<void> => {
    for (const { degraded, reason } of spool.takeTurns())
      await append("spool_degraded", {
        degraded,
        reason: reason.slice(0, 500),
        in_memory: spool.figures().inMemory,
      });
    for (const problem of spool.takeProblems()) {
      const { code = "spool_problem", ...rest } = problem;
      await append("error", {
        code,
        category: "infrastructure",
        fatal: false,
        message: `The event spool reports ${String(code)}.`,
        ...rest,
      });
    }
  };
  spool.onNews(() => {
    tellOfSpool().catch((error: unknown) => log.warn({ error }, "What the spool met could not be told."));
  });

  const wake = (): void => {
    nudge.abort();
    nudge = new AbortController();
  };

  /** True when the batch was taken as far as it was sent. */
  const sendBatch = async (from: Spool): Promise<boolean> => {
    const events = (await from.read(limits.eventsPerBatchMax, batchBytesMax)).map(complete);
    const last = events.at(-1);
    if (last === undefined) return true;
    const ack = await send(events);
    const permanent = ack.rejected.filter((one) => one.permanent);
    if (permanent.length > 0) await bury(events, permanent);
    await from.acknowledge(Math.min(ack.upToSeq, last.seq));
    for (const check of [...waiters]) check();
    if (ack.rejected.some((one) => one.code === "out_of_order")) await healGap(from, ack);
    return (
      ack.upToSeq >= last.seq ||
      (ack.upToSeq >= (events[0]?.seq ?? 0) && ack.rejected.every((one) => one.permanent))
    );
  };

  /** A controller that forgot (a restored backup) asks for events that are gone here: say so in their place. */
  const healGap = async (from: Spool, ack: EventAck): Promise<void> => {
    const [next] = (await from.read(1, batchBytesMax)).map(complete);
    const first = next === undefined ? undefined : firstSeqOf(next);
    if (next === undefined || first === undefined || ack.upToSeq + 1 >= first) return;
    log.warn(
      { acked_seq: ack.upToSeq, first_seq: first },
      "The controller misses events that were acknowledged before.",
    );
    await send([standInForRange(next, ack.upToSeq + 1, first - 1, "acknowledged_before")]);
  };

  /** What a stand-in for unreadable records cannot know. */
  const complete = <E extends VmEvent>(event: E): E => ({
    ...event,
    vmId: event.vmId === "" ? speaker.vmId : event.vmId,
    poolId: event.poolId === "" ? speaker.poolId : event.poolId,
    occurredAtMs: event.occurredAtMs === 0 ? clock.nowMs() : event.occurredAtMs,
  });

  const bury = async (events: readonly VmEvent[], rejections: readonly EventRejection[]): Promise<void> => {
    for (const rejection of rejections) {
      const event = events.find((one) => one.seq === rejection.seq);
      log.error({ ...rejection, type: event?.type }, "The controller refused an event for good.");
      try {
        const { size } = await stat(settings.deadLetterPath).catch(() => ({ size: 0 }));
        const line = `${JSON.stringify({ rejection, event })}\n`;
        if (size + line.length <= deadLetterBytesMax)
          await appendFile(settings.deadLetterPath, line, { mode: 0o600 });
      } catch (error) {
        log.warn({ error }, "The refused event could not be kept.");
      }
    }
  };

  const pump = async (): Promise<void> => {
    let told: string | undefined;
    while (!closing.signal.aborted) {
      const awake = AbortSignal.any([nudge.signal, closing.signal]);
      const from = spools.find((one) => one.pending() > 0);
      if (from === undefined) {
        await whenAborted(awake);
        continue;
      }
      let hintMs: number | undefined;
      try {
        if (await sendBatch(from)) {
          backoff.reset();
          told = undefined;
          continue;
        }
      } catch (error) {
        if (error instanceof MigError) hintMs = error.retryAfterMs;
        // Loud once for each reason: a wrong address or an authority that is not trusted looks like waiting otherwise.
        const reason = error instanceof Error ? error.message : String(error);
        const say = reason === told ? log.debug : log.warn;
        told = reason;
        say.call(
          log,
          { error, pending: from.pending() },
          "Events could not be delivered; they wait in the spool.",
        );
      }
      const waitMs = backoff.nextMs(hintMs);
      // A server's hint is never cut short; the rest of the time a channel that opens is worth a try.
      await pause(waitMs, hintMs === undefined ? wakingSignal() : closing.signal);
    }
  };

  /** Aborts when a channel opens, a flush begins or the outbox closes; new events alone do not end a backoff. */
  let urgent = new AbortController();
  const wakingSignal = (): AbortSignal => AbortSignal.any([urgent.signal, closing.signal]);
  const hurry = (): void => {
    urgent.abort();
    urgent = new AbortController();
    wake();
  };

  const whenAcknowledged: Outbox["whenAcknowledged"] = (seq, withinMs, signal) =>
    new Promise((resolve) => {
      const end = (): void => {
        waiters.delete(check);
        cancel();
        for (const one of [signal, closing.signal]) one?.removeEventListener("abort", end);
        resolve(spool.ackedSeq() >= seq);
      };
      const check = (): void => {
        if (spool.ackedSeq() >= seq) end();
      };
      const cancel = withinMs === undefined ? () => {} : clock.after(withinMs, end);
      waiters.add(check);
      for (const one of [signal, closing.signal]) one?.addEventListener("abort", end, { once: true });
      if (signal?.aborted === true || closing.signal.aborted) end();
      else check();
    });

  const running = pump();
  return {
    append,
    pending: () => spools.reduce((sum, one) => sum + one.pending(), 0),
    isAcknowledged: (seq) => spool.ackedSeq() >= seq,
    whenAcknowledged,
    flush(deadlineMs) {
      hurry();
      return whenAcknowledged(spool.lastSeq(), deadlineMs);
    },
    wake: hurry,
    async close() {
      closing.abort();
      // A request that is under way may take its whole time limit; its events are in the spool anyway.
      await Promise.race([running, pause(1000)]);
    },
  };
}

/** An event that is too large for a message would block all behind it: its data is replaced by what fits. */
function boundData(data: JsonObject): JsonObject {
  const bytes = Buffer.byteLength(JSON.stringify(data));
  if (bytes <= limits.eventDataBytesMax) return data;
  const kept: JsonObject = { truncated_bytes: bytes };
  for (const [key, value] of Object.entries(data))
    if (value === null || typeof value !== "object")
      kept[key] = typeof value === "string" ? value.slice(0, 1024) : value;
  return kept;
}

function whenAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
