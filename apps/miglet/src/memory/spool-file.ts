import { type FileHandle, open } from "node:fs/promises";
import type { Clock } from "@mig/kit";
import type { VmEvent } from "@mig/protocol";
import { encodeRecord, isCritical, type SpooledEvent } from "./spool-record.ts";
import {
  entryOf,
  readEntries,
  type Segment,
  segmentInMemory,
  segmentPath,
  syncDirectory,
} from "./spool-segment.ts";

export interface SpoolFileSettings {
  directory: string;
  groupSyncMs: number;
  clock: Clock;
  /** Called when what was written a while ago is due to be synced; calls `sync` in its turn. */
  onSyncDue(): void;
}

/**
 * The one segment file that is being written. Whatever of it throws leaves a file whose end is not known any more:
 * then `giveUp`, and another one is started.
 */
export class SpoolFile {
  readonly #settings: SpoolFileSettings;
  #open: { segment: Segment; file: FileHandle } | undefined;
  #isUnsynced = false;
  #cancelSync: (() => void) | undefined;

  constructor(settings: SpoolFileSettings) {
    this.#settings = settings;
  }

  segment(): Segment | undefined {
    return this.#open?.segment;
  }

  /** The name keeps the number, also when nothing is ever written into the file. */
  async start(firstSeq: number): Promise<void> {
    await this.close();
    const { directory } = this.#settings;
    const path = segmentPath(directory, firstSeq);
    // A line without its end may be in such a file; no event with this number was ever given out.
    const file = await open(path, "w+", 0o600);
    this.#open = { file, segment: { path, lines: undefined, entries: [], bytes: 0 } };
    await syncDirectory(directory);
  }

  /** On disk when it resolves, and synced when the event is critical; the rest is synced together a little later. */
  async append(event: SpooledEvent): Promise<void> {
    if (this.#open === undefined) throw new Error("no segment file is open");
    const { file, segment } = this.#open;
    const line = encodeRecord(event);
    await file.appendFile(line);
    this.#isUnsynced = true;
    // Counted only after the sync: when that fails, the event goes to memory and must not be here too.
    if (isCritical(event)) await this.sync();
    else this.#syncSoon();
    segment.entries.push(entryOf(event, segment.bytes, line.length));
    segment.bytes += line.length;
  }

  async sync(): Promise<void> {
    this.#cancelSync?.();
    this.#cancelSync = undefined;
    if (!this.#isUnsynced || this.#open === undefined) return;
    const { file, segment } = this.#open;
    await file.datasync();
    // Writes to a file that somebody removed succeed, and nobody could ever read them.
    if ((await file.stat()).nlink === 0) throw new Error(`${segment.path} was removed`);
    this.#isUnsynced = false;
  }

  /**
   * Answers a copy in memory of what was written and never synced: after a failed sync the kernel has forgotten that
   * it owes anything, and a second sync would succeed without a reason.
   */
  async giveUp(unknown: VmEvent): Promise<Segment | undefined> {
    this.#cancelSync?.();
    this.#cancelSync = undefined;
    const given = this.#open;
    const isUnsynced = this.#isUnsynced;
    this.#open = undefined;
    this.#isUnsynced = false;
    if (given === undefined) return undefined;
    const { file, segment } = given;
    const [first] = segment.entries;
    try {
      if (!isUnsynced || first === undefined) return undefined;
      // Through the open file: its name may be gone.
      return segmentInMemory(segment.path, await readEntries(segment, segment.entries, unknown, file));
    } catch {
      return undefined; // It is not readable now; later it may be.
    } finally {
      await file.close().catch(() => {});
    }
  }

  async close(): Promise<void> {
    await this.sync();
    await this.#open?.file.close();
    this.#open = undefined;
  }

  #syncSoon(): void {
    if (this.#cancelSync !== undefined) return;
    const { clock, groupSyncMs, onSyncDue } = this.#settings;
    this.#cancelSync = clock.after(groupSyncMs, () => {
      this.#cancelSync = undefined;
      onSyncDue();
    });
  }
}
