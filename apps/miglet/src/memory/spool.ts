import { type FileHandle, mkdir, open, readdir, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { type Clock, type Log, systemClock } from "@mig/kit";
import { type JsonObject, limits, type VmEvent } from "@mig/protocol";
import { encodeRecord, rankOf, ranks, type SpooledEvent, standIn } from "./spool-record.ts";
import {
  addInMemory,
  entryOf,
  firstSeqOfPath,
  isStandInOnly,
  isWorthThinning,
  loadSegment,
  persist,
  readEntries,
  type Segment,
  segmentInMemory,
  segmentPath,
  syncDirectory,
  withoutRanks,
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

/**
 * The events that the controller has not acknowledged, on disk, in order, in segment files.
 *
 * on disk    an append is in the file when it resolves, and synced when the type is critical; the rest is synced
 *            together within `groupSyncMs` (1 KB and a sync cost 0.34 ms, reliability-security §2.1)
 * degraded   the disk refused a write: events go to memory, bounded, until the disk takes them again
 * full       what matters least is replaced by `events_dropped`, so numbers never have a gap; a quarter of the room
 *            is for critical types only
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
  /** What was met so far and not yet taken: damaged records and the like, for the log and an `error` event. */
  takeProblems(): JsonObject[];
  close(): Promise<void>;
}

export async function openSpool(settings: SpoolSettings): Promise<Spool> {
  const spool = new DiskSpool(settings);
  await spool.load();
  return spool;
}

class DiskSpool implements Spool {
  readonly #directory: string;
  readonly #bounds: { events: number; bytes: number; memory: number; segment: number };
  readonly #waits: { groupSyncMs: number; diskRetryMs: number };
  readonly #log: Log;
  readonly #clock: Clock;
  /** What a stand-in says of its VM when no neighbour is readable; the outbox knows the rest. */
  readonly #unknown: VmEvent;
  #segments: Segment[] = [];
  #active: { segment: Segment; file: FileHandle } | undefined;
  #acked = 0;
  #next = 1;
  #problems: JsonObject[] = [];
  #tail: Promise<unknown> = Promise.resolve();
  #isUnsynced = false;
  #cancelSync: (() => void) | undefined;
  #cancelRetry: (() => void) | undefined;
  #isClosed = false;

  constructor(settings: SpoolSettings) {
    this.#directory = settings.directory;
    this.#unknown = {
      type: "events_dropped",
      vmId: "",
      poolId: "",
      incarnation: basename(settings.directory),
      occurredAtMs: 0,
      data: {},
    };
    this.#bounds = {
      events: settings.eventsMax ?? limits.outboxEventsMax,
      bytes: settings.bytesMax ?? limits.outboxBytesMax,
      memory: settings.memoryBytesMax ?? 4 * 1024 * 1024,
      segment: settings.segmentBytes ?? 256 * 1024,
    };
    this.#waits = {
      groupSyncMs: settings.groupSyncMs ?? 200,
      diskRetryMs: settings.diskRetryMs ?? 30_000,
    };
    this.#log = settings.log;
    this.#clock = settings.clock ?? systemClock;
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
      if (loaded.segment.entries.length > 0) this.#segments.push(loaded.segment);
    }
    this.#next = covered + 1;
    if (damaged > 0) this.#report("spool_damaged", { records: damaged });
    // A file with the next number in its name, before anything else is written or removed: it keeps the number.
    if (!(await this.#tryDisk(() => this.#startFile())) || !(await this.#toDisk())) return;
    const kept = new Set([this.#active?.segment.path, ...this.#segments.map((segment) => segment.path)]);
    for (const path of paths) if (!kept.has(path)) await rm(path, { force: true }).catch(() => {});
  }

  append(event: NewEvent, announce?: (seq: number) => Promise<void>): Promise<SpooledEvent> {
    return this.#serially(async () => {
      const seq = this.#next;
      await announce?.(seq);
      let stored: SpooledEvent = { ...event, seq };
      const line = encodeRecord(stored);
      if (!(await this.#makeRoom(rankOf(stored.type), line.length, stored)))
        stored = standIn([stored], "outbox_full") ?? stored;
      await this.#write(stored);
      this.#next = seq + 1;
      return stored;
    });
  }

  read(eventsMax: number, bytesMax: number): Promise<SpooledEvent[]> {
    return this.#serially(async () => {
      const events: SpooledEvent[] = [];
      let bytes = 0;
      for (const segment of this.#segments) {
        const room = eventsMax - events.length;
        const before = bytes;
        let n = 0;
        for (const entry of segment.entries.slice(0, room)) {
          if (bytes + entry.bytes > bytesMax && events.length + n > 0) break;
          bytes += entry.bytes;
          n += 1;
        }
        const wanted = segment.entries.slice(0, n);
        const like = events.at(-1) ?? this.#unknown;
        events.push(...(await readEntries(segment, wanted, like)));
        if (n < segment.entries.length || bytes === before) break;
      }
      return events;
    });
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
      for (const segment of this.#segments)
        segment.entries = segment.entries.filter((entry) => entry.seq > upToSeq);
      const gone = this.#segments.filter((segment) => segment.entries.length === 0);
      if (gone.length === 0) return;
      this.#segments = this.#segments.filter((segment) => segment.entries.length > 0);
      // The new file carries the next number in its name; only then may the old ones go.
      if (
        gone.some((segment) => segment === this.#active?.segment) &&
        !(await this.#tryDisk(() => this.#startFile()))
      )
        return;
      const kept = new Set(this.#segments.map((segment) => segment.path));
      for (const { path } of gone)
        if (path !== this.#active?.segment.path && !kept.has(path))
          await rm(path, { force: true }).catch(() => {});
    });
  }

  pending(): number {
    return this.#segments.reduce((sum, segment) => sum + segment.entries.length, 0);
  }

  ackedSeq(): number {
    return this.#acked;
  }

  lastSeq(): number {
    return this.#next - 1;
  }

  degraded(): boolean {
    return this.#segments.some((segment) => segment.lines !== undefined);
  }

  takeProblems(): JsonObject[] {
    const taken = this.#problems;
    this.#problems = [];
    return taken;
  }

  close(): Promise<void> {
    this.#isClosed = true;
    this.#cancelSync?.();
    this.#cancelRetry?.();
    return this.#serially(async () => {
      if (this.degraded()) await this.#toDisk();
      await this.#sync();
      await this.#active?.file.close();
      this.#active = undefined;
    });
  }

  #serially<T>(run: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(run);
    this.#tail = result.catch(() => {});
    return result;
  }

  async #write(event: SpooledEvent): Promise<void> {
    if (!(await this.#tryDisk(() => this.#writeToFile(event)))) this.#writeToMemory(event);
  }

  async #writeToFile(event: SpooledEvent): Promise<void> {
    // Order is the order of segments: while anything waits in memory, newer events wait behind it.
    if (this.degraded()) throw new Error("earlier events still wait in memory");
    if (this.#active === undefined || this.#active.segment.bytes >= this.#bounds.segment)
      await this.#startFile(event.seq);
    const active = this.#active;
    if (active === undefined) throw new Error("no segment file is open");
    const line = encodeRecord(event);
    await active.file.appendFile(line);
    this.#isUnsynced = true;
    // Counted only after the sync: when that fails, the event goes to memory and must not be here too.
    if (rankOf(event.type) === ranks.critical) await this.#sync();
    else this.#syncSoon();
    if (!this.#segments.includes(active.segment)) this.#segments.push(active.segment);
    active.segment.entries.push(entryOf(event, active.segment.bytes, line.length));
    active.segment.bytes += line.length;
  }

  #writeToMemory(event: SpooledEvent): void {
    let last = this.#segments.at(-1);
    if (last?.lines === undefined) {
      last = segmentInMemory(segmentPath(this.#directory, event.seq), []);
      this.#segments.push(last);
    }
    addInMemory(last, event);
    this.#retryDiskLater();
  }

  async #startFile(firstSeq = this.#next): Promise<void> {
    await this.#sync();
    await this.#active?.file.close();
    this.#active = undefined;
    const path = segmentPath(this.#directory, firstSeq);
    // A line without its end may be in such a file; no event with this number was ever given out.
    const file = await open(path, "w", 0o600);
    this.#active = { file, segment: { path, lines: undefined, entries: [], bytes: 0 } };
    await syncDirectory(this.#directory);
  }

  async #sync(): Promise<void> {
    this.#cancelSync?.();
    this.#cancelSync = undefined;
    if (!this.#isUnsynced) return;
    this.#isUnsynced = false;
    await this.#active?.file.datasync();
  }

  #syncSoon(): void {
    if (this.#cancelSync !== undefined || this.#isClosed) return;
    this.#cancelSync = this.#clock.after(this.#waits.groupSyncMs, () => {
      this.#cancelSync = undefined;
      void this.#serially(() => this.#tryDisk(() => this.#sync()));
    });
  }

  /** False when the disk refuses; then the open file is given up, because its end is not known any more. */
  async #tryDisk(run: () => Promise<void>): Promise<boolean> {
    const wasDegraded = this.degraded();
    try {
      await run();
      return true;
    } catch (error) {
      if (!wasDegraded) this.#report("spool_degraded", { reason: String(error) });
      await this.#active?.file.close().catch(() => {});
      this.#active = undefined;
      this.#isUnsynced = false;
      return false;
    }
  }

  /** Moves what is in memory to files; true when nothing is left in memory. */
  async #toDisk(): Promise<boolean> {
    try {
      for (const segment of this.#segments) await persist(segment);
      return true;
    } catch (error) {
      this.#log.debug({ error }, "The disk still refuses the events that wait in memory.");
      this.#retryDiskLater();
      return false;
    }
  }

  #retryDiskLater(): void {
    if (this.#cancelRetry !== undefined || this.#isClosed) return;
    this.#cancelRetry = this.#clock.after(this.#waits.diskRetryMs, () => {
      this.#cancelRetry = undefined;
      void this.#serially(async () => {
        if (this.degraded() && (await this.#toDisk())) this.#report("spool_restored", {});
      });
    });
  }

  async #makeRoom(rank: number, bytes: number, like: VmEvent): Promise<boolean> {
    const share = rank === ranks.critical ? 1 : 0.75;
    const isOver = (part: number): boolean =>
      this.pending() + 1 > this.#bounds.events * part || this.#bytes() + bytes > this.#bounds.bytes * part;
    const isMemoryOver = (part: number): boolean =>
      this.degraded() && this.#memoryBytes() + bytes > this.#bounds.memory * part;
    if (!isOver(share) && !isMemoryOver(share)) return true;
    for (let tier = ranks.job_heartbeat as number; tier <= rank; tier += 1) {
      for (const segment of [...this.#segments]) {
        // Go somewhat below the bound, so that the next append need not do this again.
        if (!isOver(share * 0.9) && !isMemoryOver(share * 0.9)) return true;
        if (segment.lines !== undefined || isOver(share * 0.9)) await this.#thin(segment, tier, like);
      }
    }
    return !isOver(share) && !isMemoryOver(share);
  }

  async #thin(segment: Segment, rankMax: number, like: VmEvent): Promise<void> {
    const index = this.#segments.indexOf(segment);
    const before = this.#segments[index - 1];
    const mayMerge = before !== undefined && isStandInOnly(before);
    if (!isWorthThinning(segment, rankMax) && !(mayMerge && isStandInOnly(segment))) return;
    const isInMemory = segment.lines !== undefined;
    let thinned = await withoutRanks(segment, rankMax, like);
    const merges = mayMerge && isStandInOnly(thinned);
    if (merges) {
      const both = [
        ...(await readEntries(before, before.entries, like)),
        ...(await readEntries(thinned, thinned.entries, like)),
      ];
      const merged = standIn(both, "outbox_full");
      // Under the older name: a file's name is the first number that it accounts for.
      if (merged !== undefined) thinned = segmentInMemory(before.path, [merged]);
    }
    if (segment === this.#active?.segment && !(await this.#tryDisk(() => this.#startFile()))) return;
    if (!isInMemory) {
      try {
        await persist(thinned);
      } catch {
        return; // The file stays as it is; other segments may give room.
      }
    }
    this.#segments.splice(merges ? index - 1 : index, merges ? 2 : 1, thinned);
    if (merges) await rm(segment.path, { force: true }).catch(() => {});
  }

  #bytes(): number {
    return this.#segments.reduce((sum, segment) => sum + segment.bytes, 0);
  }

  #memoryBytes(): number {
    return this.#segments.reduce(
      (sum, segment) => sum + (segment.lines === undefined ? 0 : segment.bytes),
      0,
    );
  }

  #report(code: string, fields: JsonObject): void {
    this.#log.warn({ ...fields, directory: this.#directory }, `The event spool reports ${code}.`);
    if (this.#problems.length < 20) this.#problems.push({ code, ...fields });
  }
}
