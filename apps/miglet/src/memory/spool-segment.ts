import { type FileHandle, open, readFile, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { firstSeqOf, type VmEvent } from "@mig/protocol";
import {
  decodeRecord,
  encodeRecord,
  rankOf,
  ranks,
  type SpooledEvent,
  standIn,
  standInForRange,
} from "./spool-record.ts";

/** Where one pending event is. `from` differs from `seq` for a stand-in only. */
export interface Entry {
  seq: number;
  from: number;
  rank: number;
  offset: number;
  bytes: number;
}

/**
 * A part of the spool, oldest events first: a file named after its first seq, or lines in memory while the disk
 * refuses to take them.
 */
export interface Segment {
  path: string;
  /** Present while the segment is in memory only. */
  lines: Buffer[] | undefined;
  entries: Entry[];
  /** Of the file, with what is acknowledged already. */
  bytes: number;
}

export function segmentPath(directory: string, firstSeq: number): string {
  return join(directory, `${String(firstSeq).padStart(12, "0")}.log`);
}

export function firstSeqOfPath(path: string): number {
  return Number.parseInt(basename(path), 10);
}

export function entryOf(event: SpooledEvent, offset: number, bytes: number): Entry {
  return { seq: event.seq, from: firstSeqOf(event) ?? event.seq, rank: rankOf(event), offset, bytes };
}

/**
 * The events of these adjacent entries of one segment. What cannot be read any more becomes a stand-in. `opened`: the
 * segment's file, where its name may be gone.
 */
export async function readEntries(
  segment: Segment,
  entries: readonly Entry[],
  like: VmEvent,
  opened?: FileHandle,
): Promise<SpooledEvent[]> {
  const first = entries[0];
  const last = entries.at(-1);
  if (first === undefined || last === undefined) return [];
  const start = first.offset;
  const length = last.offset + last.bytes - start;
  const bytes =
    opened === undefined ? await readRange(segment, start, length) : await readFully(opened, start, length);
  return entries.map((entry) => {
    const line = bytes.subarray(entry.offset - start, entry.offset - start + entry.bytes - 1);
    const event = decodeRecord(line);
    return event?.seq === entry.seq ? event : standInForRange(like, entry.from, entry.seq, "damaged");
  });
}

async function readRange(segment: Segment, offset: number, length: number): Promise<Buffer> {
  if (segment.lines !== undefined) return Buffer.concat(segment.lines).subarray(offset, offset + length);
  let file: FileHandle;
  try {
    file = await open(segment.path, "r");
  } catch (error) {
    // Somebody removed the file: its events are gone, and saying so is all that is left.
    if (/^ENO(ENT|TDIR)$/.test((error as NodeJS.ErrnoException).code ?? "")) return Buffer.alloc(length);
    throw error;
  }
  try {
    return await readFully(file, offset, length);
  } finally {
    await file.close();
  }
}

/** Zeros where the file ends early. */
async function readFully(file: FileHandle, offset: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; ) {
    const { bytesRead } = await file.read(bytes, at, length - at, offset + at);
    if (bytesRead === 0) break;
    at += bytesRead;
  }
  return bytes;
}

/** Writes the lines of a segment in memory to its file, all or nothing. */
export async function persist(segment: Segment): Promise<void> {
  if (segment.lines === undefined) return;
  const beside = `${segment.path}.tmp`;
  try {
    const file = await open(beside, "w", 0o600);
    try {
      await file.writeFile(Buffer.concat(segment.lines));
      await file.datasync();
    } finally {
      await file.close();
    }
    await rename(beside, segment.path);
  } catch (error) {
    await rm(beside, { force: true }).catch(() => {});
    throw error;
  }
  await syncDirectory(dirname(segment.path));
  segment.lines = undefined;
}

export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

export function segmentInMemory(path: string, events: readonly SpooledEvent[]): Segment {
  const segment: Segment = { path, lines: [], entries: [], bytes: 0 };
  for (const event of events) addInMemory(segment, event);
  return segment;
}

export function addInMemory(segment: Segment, event: SpooledEvent): void {
  const line = encodeRecord(event);
  segment.lines?.push(line);
  segment.entries.push(entryOf(event, segment.bytes, line.length));
  segment.bytes += line.length;
}

/** The same segment, in memory, with each run of events up to this rank replaced by one stand-in. */
export async function withoutRanks(segment: Segment, rankMax: number, like: VmEvent): Promise<Segment> {
  const kept: SpooledEvent[] = [];
  let run: SpooledEvent[] = [];
  const endRun = (): void => {
    const single = run.length === 1 && run[0]?.type === "events_dropped" ? run[0] : undefined;
    const event = single ?? standIn(run, "outbox_full");
    if (event !== undefined) kept.push(event);
    run = [];
  };
  for (const event of await readEntries(segment, segment.entries, like)) {
    if (rankOf(event) <= rankMax) run.push(event);
    else {
      endRun();
      kept.push(event);
    }
  }
  endRun();
  return segmentInMemory(segment.path, kept);
}

export interface Loaded {
  segment: Segment;
  /** The highest number that an entry accounts for. */
  coveredSeq: number;
  /** Records that were there and are not readable. */
  damaged: number;
}

/**
 * Reads a segment file, whatever happened to it. Numbers that are missing before, between or after readable records
 * (up to `endSeq`, where the following file begins) become stand-ins. At the end of the last file each unreadable
 * whole line is a used number: it may have been sent, and a number that is given twice would make the controller
 * take a new event for an old one. A line without its end was never sent.
 */
export async function loadSegment(
  path: string,
  coveredSeq: number,
  endSeq: number | undefined,
  unknown: VmEvent,
): Promise<Loaded> {
  const content = await readFile(path);
  const segment: Segment = { path, lines: undefined, entries: [], bytes: content.length };
  const events: SpooledEvent[] = [];
  let covered = coveredSeq;
  let damaged = 0;
  let damagedAtEnd = 0;
  let isWhole = true;
  const coverUpTo = (seq: number, like: VmEvent): void => {
    if (seq <= covered) return;
    events.push(standInForRange(like, covered + 1, seq, "damaged"));
    covered = seq;
    isWhole = false;
  };
  for (let start = 0; start < content.length; ) {
    const end = content.indexOf(0x0a, start);
    if (end === -1) {
      isWhole = false;
      break;
    }
    const event = decodeRecord(content.subarray(start, end));
    const offset = start;
    start = end + 1;
    if (event === undefined) {
      damaged += 1;
      damagedAtEnd += 1;
      isWhole = false;
      continue;
    }
    damagedAtEnd = 0;
    const entry = entryOf(event, offset, start - offset);
    if (entry.seq <= covered) continue;
    coverUpTo(entry.from - 1, event);
    events.push(event);
    segment.entries.push(entry);
    covered = entry.seq;
  }
  coverUpTo(endSeq ?? covered + damagedAtEnd, events.at(-1) ?? unknown);
  return { segment: isWhole ? segment : segmentInMemory(path, events), coveredSeq: covered, damaged };
}

export const isStandInOnly = (segment: Segment): boolean =>
  segment.entries.length === 1 && segment.entries[0]?.rank === ranks.dropped;

/** A stand-in takes some 400 bytes: replacing a few small events one by one would lose them and give no room. */
export function isWorthThinning(segment: Segment, rankMax: number): boolean {
  let runs = 0;
  let droppable = 0;
  let bytes = 0;
  let isInRun = false;
  for (const entry of segment.entries) {
    const goes = entry.rank <= rankMax;
    if (goes && !isInRun) runs += 1;
    if (goes) {
      droppable += 1;
      if (entry.rank !== ranks.dropped) bytes += entry.bytes;
    }
    isInRun = goes;
  }
  return droppable > runs || bytes > runs * 800;
}
