import { rm } from "node:fs/promises";
import type { VmEvent } from "@mig/protocol";
import type { SpoolContents } from "./spool-contents.ts";
import { ranks, standIn } from "./spool-record.ts";
import {
  isStandInOnly,
  isWorthThinning,
  persist,
  readEntries,
  type Segment,
  segmentInMemory,
  withoutRanks,
} from "./spool-segment.ts";

export interface SpoolBounds {
  events: number;
  bytes: number;
  /** Of what is in memory while the disk refuses. */
  memory: number;
}

export interface Room {
  contents: SpoolContents;
  bounds: SpoolBounds;
  /** Ends the file that is being written, if it is this one; false when the disk refuses. */
  leave(segment: Segment): Promise<boolean>;
}

/**
 * Makes room for one more event of this rank and size by replacing what matters less, oldest first, with
 * `events_dropped`. A quarter of the room is for critical events only (reliability-security §2.1). False: there is none.
 */
export async function makeRoom(room: Room, rank: number, bytes: number, like: VmEvent): Promise<boolean> {
  const { contents, bounds } = room;
  const share = rank === ranks.critical ? 1 : 0.75;
  const isOver = (part: number): boolean =>
    contents.pending() + 1 > bounds.events * part || contents.bytes() + bytes > bounds.bytes * part;
  const isMemoryOver = (part: number): boolean =>
    contents.hasMemory() && contents.inMemory().bytes + bytes > bounds.memory * part;
  if (!isOver(share) && !isMemoryOver(share)) return true;
  for (let tier = ranks.job_heartbeat as number; tier <= rank; tier += 1) {
    for (const segment of [...contents.segments]) {
      // Go somewhat below the bound, so that the next append need not do this again.
      if (!isOver(share * 0.9) && !isMemoryOver(share * 0.9)) return true;
      if (segment.lines !== undefined || isOver(share * 0.9)) await thin(room, segment, tier, like);
    }
  }
  return !isOver(share) && !isMemoryOver(share);
}

async function thin(room: Room, segment: Segment, rankMax: number, like: VmEvent): Promise<void> {
  const { segments } = room.contents;
  const index = segments.indexOf(segment);
  const before = segments[index - 1];
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
  if (!(await room.leave(segment))) return;
  if (!isInMemory) {
    try {
      await persist(thinned);
    } catch {
      return; // The file stays as it is; other segments may give room.
    }
  }
  segments.splice(merges ? index - 1 : index, merges ? 2 : 1, thinned);
  if (merges) await rm(segment.path, { force: true }).catch(() => {});
}
