import { mkdir, readdir, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { type Clock, type Log, systemClock } from "@mig/kit";
import { type JsonObject, limits, type VmEvent } from "@mig/protocol";
import { SpoolContents } from "./spool-contents.ts";
import { SpoolFile } from "./spool-file.ts";
import { encodeRecord, rankOf, type SpooledEvent, standIn } from "./spool-record.ts";
import { makeRoom, type SpoolBounds } from "./spool-room.ts";
import {
  addInMemory,
  firstSeqOfPath,
  loadSegment,
  persist,
  type Segment,
  segmentInMemory,
  segmentPath,
} from "./spool-segment.ts";

/** An event before the spool gives it its number. */
export type NewEvent = Omit<VmEvent, "seq">;

export interface SpoolSettings {
  /** Of one incarnation. */
  directory: string;
  eventsMax?: number;
  bytesMax?: number;
  memoryBytesMax?: number;
  segmentBytes?: number;
  groupSyncMs?: number;
  diskRetryMs?: number;
  log: Log;
  clock?: Clock;
}

/** The disk began to refuse writes, or takes them again. */
export interface SpoolTurn {
  degraded: boolean;
  reason: string;
}

export interface SpoolFigures {
  pending: number;
  bytes: number;
  /** Events that wait in memory, because the disk refuses them. */
  inMemory: number;
  degraded: boolean;
}

/**
 * The events that the controller has not acknowledged, on disk, in order, in segment files.
 *
 * on disk    an append is in the file when it resolves, and synced when the event is critical; the rest is synced
 *            together within `groupSyncMs` (1 KB and a sync cost 0.34 ms, reliability-security §2.1)
 * degraded   the disk refused a write: events go to memory, bounded, until the disk takes them again; it is asked
 *            every `diskRetryMs`
 * full       what matters least is replaced by `events_dropped`, so numbers never have a gap: spool-room.ts
 */
export interface Spool {
  /** `announce` hears the number before anything is written under it. */
  append(event: NewEvent, announce?: (seq: number) => Promise<void>): Promise<SpooledEvent>;
  /** The oldest pending events, in order; at least one when there is any. */
  read(eventsMax: number, bytesMax: number): Promise<SpooledEvent[]>;
  acknowledge(upToSeq: number): Promise<void>;
  pending(): number;
  ackedSeq(): number;
  lastSeq(): number;
  degraded(): boolean;
  figures(): SpoolFigures;
  /** What was met so far and not yet taken: damaged records and the like, for the log and an `error` event. */
  takeProblems(): JsonObject[];
  /** Not yet taken, oldest first: one `spool_degraded` event each. */
  takeTurns(): SpoolTurn[];
  /** Called, some time later, when there is something to take. One listener. */
  onNews(listener: () => void): void;
  close(): Promise<void>;
}

export async function openSpool(settings: SpoolSettings): Promise<Spool> {
  const spool = new DiskSpool(settings);
  await spool.load();
  return spool;
}

class DiskSpool implements Spool {
  readonly #directory: string;
  readonly #bounds: SpoolBounds & { segment: number };
  readonly #diskRetryMs: number;
  readonly #log: Log;
  readonly #clock: Clock;
  /** What a stand-in says of its VM when no neighbour is readable; the outbox knows the rest. */
  readonly #unknown: VmEvent;
  readonly #contents = new SpoolContents();
  readonly #file: SpoolFile;
  #acked = 0;
  #next = 1;
  #problems: JsonObject[] = [];
  #turns: SpoolTurn[] = [];
  #isRefusing = false;
  #listener = (): void => {};
  #tail: Promise<unknown> = Promise.resolve();
  #cancelRetry: (() => void) | undefined;
  #isClosed = false;

  constructor(settings: SpoolSettings) {
    const { directory, groupSyncMs = 200, clock = systemClock } = settings;
    this.#directory = directory;
    this.#unknown = {
      type: "events_dropped",
      vmId: "",
      poolId: "",
      incarnation: basename(directory),
      occurredAtMs: 0,
      data: {},
    };
    this.#bounds = {
      events: settings.eventsMax ?? limits.outboxEventsMax,
      bytes: settings.bytesMax ?? limits.outboxBytesMax,
      memory: settings.memoryBytesMax ?? 4 * 1024 * 1024,
      segment: settings.segmentBytes ?? 256 * 1024,
    };
    this.#diskRetryMs = settings.diskRetryMs ?? 30_000;
    this.#log = settings.log;
    this.#clock = clock;
    const onSyncDue = (): void => void this.#serially(() => this.#tryDisk(() => this.#file.sync()));
    this.#file = new SpoolFile({ directory, groupSyncMs, clock, onSyncDue });
  }

  async load(): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    const names = (await readdir(this.#directory)).filter((name) => /^\d{12}\.log$/.test(name)).sort();
    const paths = names.map((name) => join(this.#directory, name));
    const [oldest] = paths;
    let covered = oldest === undefined ? 0 : firstSeqOfPath(oldest) - 1;
    this.#acked = covered;
    let damaged = 0;
    for (const [index, path] of paths.entries()) {
      const following = paths[index + 1];
      const endSeq = following === undefined ? undefined : firstSeqOfPath(following) - 1;
      const loaded = await loadSegment(path, covered, endSeq, this.#unknown);
      covered = loaded.coveredSeq;
      damaged += loaded.damaged;
      if (loaded.segment.entries.length > 0) this.#contents.segments.push(loaded.segment);
    }
    this.#next = covered + 1;
    if (damaged > 0) this.#report("spool_damaged", { records: damaged });
    // A file with the next number in its name, before anything else is written or removed: it keeps the number.
    if (!(await this.#tryDisk(() => this.#file.start(this.#next)))) return;
    if (!(await this.#tryDisk(() => this.#persistMemory()))) return;
    await this.#remove(paths);
  }

  append(event: NewEvent, announce?: (seq: number) => Promise<void>): Promise<SpooledEvent> {
    return this.#serially(async () => {
      const seq = this.#next;
      await announce?.(seq);
      let stored: SpooledEvent = { ...event, seq };
      const leave = async (segment: Segment): Promise<boolean> =>
        segment !== this.#file.segment() || (await this.#tryDisk(() => this.#file.start(this.#next)));
      const room = { contents: this.#contents, bounds: this.#bounds, leave };
      if (!(await makeRoom(room, rankOf(stored), encodeRecord(stored).length, stored)))
        stored = standIn([stored], "outbox_full") ?? stored;
      // While anything waits in memory, what is newer waits behind it.
      const isOnDisk = !this.#contents.hasMemory() && (await this.#tryDisk(() => this.#writeToFile(stored)));
      if (isOnDisk) this.#accepted();
      else this.#writeToMemory(stored);
      this.#next = seq + 1;
      return stored;
    });
  }

  read(eventsMax: number, bytesMax: number): Promise<SpooledEvent[]> {
    return this.#serially(() => this.#contents.read(eventsMax, bytesMax, this.#unknown));
  }

  acknowledge(upToSeq: number): Promise<void> {
    return this.#serially(async () => {
      if (upToSeq >= this.#next) {
        // The controller knows numbers that this spool never gave: its files were lost in the same incarnation.
        this.#report("spool_behind", { next_seq: this.#next, acked_seq: upToSeq });
        this.#next = upToSeq + 1;
      }
      if (upToSeq <= this.#acked) return;
      this.#acked = upToSeq;
      const gone = this.#contents.acknowledge(upToSeq);
      const active = this.#file.segment();
      // The new file carries the next number in its name; only then may the old ones go.
      const mayGo =
        active === undefined ||
        !gone.includes(active) ||
        (await this.#tryDisk(() => this.#file.start(this.#next)));
      if (mayGo) await this.#remove(gone.map(({ path }) => path));
    });
  }

  pending(): number {
    return this.#contents.pending();
  }

  ackedSeq(): number {
    return this.#acked;
  }

  lastSeq(): number {
    return this.#next - 1;
  }

  degraded(): boolean {
    return this.#isRefusing || this.#contents.hasMemory();
  }

  figures(): SpoolFigures {
    const inMemory = this.#contents.inMemory().events;
    return { pending: this.pending(), bytes: this.#contents.bytes(), inMemory, degraded: this.degraded() };
  }

  takeProblems(): JsonObject[] {
    return this.#problems.splice(0);
  }

  takeTurns(): SpoolTurn[] {
    return this.#turns.splice(0);
  }

  onNews(listener: () => void): void {
    this.#listener = listener;
  }

  close(): Promise<void> {
    this.#isClosed = true;
    this.#cancelRetry?.();
    return this.#serially(async () => {
      if (this.#contents.hasMemory()) await this.#tryDisk(() => this.#persistMemory());
      await this.#tryDisk(() => this.#file.close());
    });
  }

  #serially<T>(run: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(run);
    this.#tail = result.catch(() => {});
    return result;
  }

  async #writeToFile(event: SpooledEvent): Promise<void> {
    const before = this.#file.segment();
    if (before === undefined || before.bytes >= this.#bounds.segment) await this.#file.start(event.seq);
    await this.#file.append(event);
    const segment = this.#file.segment();
    if (segment !== undefined && !this.#contents.segments.includes(segment))
      this.#contents.segments.push(segment);
  }

  #writeToMemory(event: SpooledEvent): void {
    const { segments } = this.#contents;
    let last = segments.at(-1);
    if (last?.lines === undefined) {
      last = segmentInMemory(segmentPath(this.#directory, event.seq), []);
      segments.push(last);
    }
    addInMemory(last, event);
    this.#retryLater();
  }

  /** False when the disk refuses; what was written and never synced is then kept in memory. */
  async #tryDisk(run: () => Promise<void>): Promise<boolean> {
    try {
      await run();
      return true;
    } catch (error) {
      if (!this.#isRefusing) this.#turn(true, String(error));
      this.#isRefusing = true;
      const unsynced = await this.#file.giveUp(this.#unknown);
      if (unsynced !== undefined)
        this.#contents.segments = this.#contents.segments.map((segment) =>
          segment.path === unsynced.path ? unsynced : segment,
        );
      this.#retryLater();
      return false;
    }
  }

  /** The disk takes what it is given, and nothing waits in memory any more. */
  #accepted(): void {
    if (!this.#isRefusing || this.#contents.hasMemory()) return;
    this.#isRefusing = false;
    this.#turn(false, "the disk takes events again");
  }

  async #persistMemory(): Promise<void> {
    for (const segment of this.#contents.segments) await persist(segment);
  }

  #retryLater(): void {
    if (this.#cancelRetry !== undefined || this.#isClosed) return;
    this.#cancelRetry = this.#clock.after(this.#diskRetryMs, () => {
      this.#cancelRetry = undefined;
      void this.#serially(async () => {
        const isWell =
          (await this.#tryDisk(() => this.#persistMemory())) &&
          (await this.#tryDisk(() => this.#file.start(this.#next)));
        if (isWell) this.#accepted();
      });
    });
  }

  async #remove(paths: readonly string[]): Promise<void> {
    const kept = new Set([this.#file.segment()?.path, ...this.#contents.segments.map(({ path }) => path)]);
    for (const path of paths) if (!kept.has(path)) await rm(path, { force: true }).catch(() => {});
  }

  #turn(degraded: boolean, reason: string): void {
    const { inMemory } = this.figures();
    const fields = { degraded, reason, in_memory: inMemory, directory: this.#directory };
    this.#log.warn(fields, degraded ? "The disk refuses events." : "The disk takes events again.");
    // The newest matters; a disk that turns for ever must not fill the memory.
    if (this.#turns.length < 20) this.#turns.push({ degraded, reason });
    this.#clock.after(0, () => this.#listener());
  }

  #report(code: string, fields: JsonObject): void {
    this.#log.warn({ ...fields, directory: this.#directory }, `The event spool reports ${code}.`);
    if (this.#problems.length < 20) this.#problems.push({ code, ...fields });
    this.#clock.after(0, () => this.#listener());
  }
}
