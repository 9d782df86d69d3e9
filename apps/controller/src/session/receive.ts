import { pause } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { type EventAck, type EventRejection, isEventType, isId, type VmEvent } from "@mig/protocol";
import { sql } from "kysely";
import { recognize } from "../boot/begin-life.ts";
import { judgeEvent } from "../events/judge.ts";
import { recordEvent } from "../events/record.ts";
import { hear } from "../heartbeat/apply-beat.ts";
import { life } from "../life.ts";
import type { Tx } from "../store/open-store.ts";
import type { VmRow } from "../store/rows.ts";
import { textsIn } from "../store/table.ts";
import { type Unit, withUnit } from "../store/unit.ts";
import { namesIn, type Parts } from "./parts.ts";

/**
 * Events on their way into the table. Callers' submissions wait together for at most 5 ms or until 500 events are
 * there, are judged, recorded and told to their flows in one unit of work, and are acknowledged when it has been
 * committed (group commit; reliability-security §2.1). Nothing is acknowledged from memory: with the database away
 * a submission is refused and the agent keeps it.
 */
interface Submission {
  vmId: string;
  events: VmEvent[];
  /** Of the events' data as JSON, about. */
  bytes: number;
  /** Monotonic. */
  atMs: number;
  settle(ack: EventAck): void;
  fail(error: unknown): void;
}

const eventsPerCommit = 500;
const bytesPerCommit = 4 * 1024 * 1024;
const gatherMs = 5;
/** What may wait; beyond it a submission is refused and the agent keeps it (reliability-security §2.1). */
const queuedEventsMax = 10_000;
const queuedBytesMax = 32 * 1024 * 1024;

export class EventIntake {
  readonly #parts: Parts;
  #queue: Submission[] = [];
  #queuedEvents = 0;
  #queuedBytes = 0;
  #running: Promise<void> | undefined;
  /** Of those that are being stored, the oldest. */
  #storingSinceMs: number | undefined;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  submit(vmId: string, events: VmEvent[]): Promise<EventAck> {
    const bytes = JSON.stringify(events).length;
    if (this.#queuedEvents + events.length > queuedEventsMax || this.#queuedBytes + bytes > queuedBytesMax) {
      throw new MigError(
        "overloaded",
        `${this.#queuedEvents} events wait to be stored; send these again later`,
        {
          retryAfterMs: 1_000,
        },
      );
    }
    return new Promise((settle, fail) => {
      this.#queue.push({ vmId, events, bytes, atMs: performance.now(), settle, fail });
      this.#queuedEvents += events.length;
      this.#queuedBytes += bytes;
      this.#running ??= this.#run();
    });
  }

  /** How long the oldest that is not stored yet has waited. */
  ageMs(): number {
    const sinceMs = this.#storingSinceMs ?? this.#queue[0]?.atMs;
    return sinceMs === undefined ? 0 : performance.now() - sinceMs;
  }

  /** Resolves when nothing is under way any more. */
  async idle(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  async #run(): Promise<void> {
    while (this.#queue.length > 0) {
      if (this.#queuedEvents < eventsPerCommit) await pause(gatherMs);
      const batch = this.#take();
      this.#storingSinceMs = batch[0]?.atMs;
      await this.#commit(batch);
      this.#storingSinceMs = undefined;
    }
    this.#running = undefined;
  }

  #take(): Submission[] {
    const batch: Submission[] = [];
    let events = 0;
    let bytes = 0;
    while (batch.length === 0 || (events < eventsPerCommit && bytes < bytesPerCommit)) {
      const next = this.#queue.shift();
      if (next === undefined) break;
      batch.push(next);
      events += next.events.length;
      bytes += next.bytes;
    }
    this.#queuedEvents -= events;
    this.#queuedBytes -= bytes;
    return batch;
  }

  async #commit(batch: Submission[]): Promise<void> {
    const events = batch.flatMap((submission) => submission.events);
    const scope = {
      vmIds: batch.map((submission) => submission.vmId),
      incarnations: events.flatMap((event) => event.incarnation ?? []),
    };
    try {
      const acks = await withUnit(this.#parts.store, scope, async (unit, tx) => {
        const stored = await findStored(tx, scope.vmIds, events);
        return batch.map((submission) => takeIn(unit, submission, stored, this.#parts));
      });
      for (const [i, submission] of batch.entries()) {
        const ack = acks[i];
        if (ack !== undefined) submission.settle(ack);
      }
    } catch (error) {
      // One that the database cannot take must not hold up the others (reliability-security R22).
      const oneIsBad = error instanceof MigError && error.code === "internal" && batch.length > 1;
      if (oneIsBad) for (const submission of batch) await this.#commit([submission]);
      else for (const submission of batch) submission.fail(error);
    }
  }
}

/** `vm event-id` of those that are in the table already. */
async function findStored(
  tx: Tx,
  vmIds: readonly string[],
  events: readonly VmEvent[],
): Promise<Set<string>> {
  const ids = events.flatMap((event) =>
    event.eventId !== undefined && isId(event.eventId) ? [event.eventId] : [],
  );
  if (ids.length === 0) return new Set();
  const found = await sql<{
    vmId: string;
    eventId: string;
  }>`select vm_id as "vmId", event_id as "eventId" from events
    where vm_id in ${textsIn(vmIds)} and event_id in ${textsIn(ids)}`.execute(tx);
  return new Set(found.rows.map((row) => `${row.vmId} ${row.eventId}`));
}

function takeIn(unit: Unit, { vmId, events }: Submission, stored: Set<string>, parts: Parts): EventAck {
  const rejected: EventRejection[] = [];
  let ack: EventAck = { incarnation: "", upToSeq: 0, rejected };
  for (const event of events) {
    const { context, cursor, current } = recognize(
      unit,
      {
        vmId,
        ...namesIn(parts, event),
        incarnation: event.incarnation,
        occurredAtMs: event.occurredAtMs,
        restarted: (vm: VmRow) => event.type === "vm_started" && vm.state !== "initializing",
      },
      parts.rules,
      parts.log,
    );
    if (current) hear(context);
    const judgement = judgeEvent(event, cursor.ackedSeq);
    const key = `${vmId} ${event.eventId}`;
    const known = event.eventId !== undefined && stored.has(key);
    if (
      judgement.verdict === "refuse" ||
      (judgement.verdict === "store" && known && event.seq !== undefined)
    ) {
      const rejection =
        judgement.verdict === "refuse"
          ? judgement.rejection
          : {
              seq: event.seq ?? 0,
              code: "refused",
              message: "another event has this event_id",
              permanent: true,
            };
      rejected.push(rejection);
      const { eventId: _taken, ...rest } = event;
      recordEvent(context, known ? rest : event, cursor, rejection.message);
    } else if (judgement.verdict === "gap") {
      rejected.push(judgement.rejection);
    } else if (judgement.verdict === "store" && !known) {
      recordEvent(context, event, cursor, null);
      if (current && isEventType(event.type)) life[event.type](context, event);
    }
    if (event.eventId !== undefined && judgement.verdict !== "gap") stored.add(key);
    ack = { incarnation: cursor.incarnation, upToSeq: cursor.ackedSeq, rejected };
  }
  return ack;
}
