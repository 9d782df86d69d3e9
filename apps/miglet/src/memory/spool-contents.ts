import type { VmEvent } from "@mig/protocol";
import type { SpooledEvent } from "./spool-record.ts";
import { readEntries, type Segment } from "./spool-segment.ts";

/** What waits in a spool: its segments, oldest events first, and how much that is. */
export class SpoolContents {
  segments: Segment[] = [];

  pending(): number {
    return this.segments.reduce((sum, { entries }) => sum + entries.length, 0);
  }

  bytes(): number {
    return this.segments.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  inMemory(): { events: number; bytes: number } {
    let [events, bytes] = [0, 0];
    for (const { lines, entries, bytes: n } of this.segments) {
      if (lines === undefined) continue;
      events += entries.length;
      bytes += n;
    }
    return { events, bytes };
  }

  /** Order is the order of segments: while anything waits in memory, newer events wait behind it. */
  hasMemory(): boolean {
    return this.segments.some(({ lines }) => lines !== undefined);
  }

  /** The oldest pending events, in order; at least one when there is any. */
  async read(eventsMax: number, bytesMax: number, unknown: VmEvent): Promise<SpooledEvent[]> {
    const events: SpooledEvent[] = [];
    let bytes = 0;
    for (const segment of this.segments) {
      const room = eventsMax - events.length;
      const before = bytes;
      let n = 0;
      for (const entry of segment.entries.slice(0, room)) {
        if (bytes + entry.bytes > bytesMax && events.length + n > 0) break;
        bytes += entry.bytes;
        n += 1;
      }
      const like = events.at(-1) ?? unknown;
      events.push(...(await readEntries(segment, segment.entries.slice(0, n), like)));
      if (n < segment.entries.length || bytes === before) break;
    }
    return events;
  }

  /** Forgets what is acknowledged; answers the segments that have nothing left. */
  acknowledge(upToSeq: number): Segment[] {
    for (const segment of this.segments)
      segment.entries = segment.entries.filter((entry) => entry.seq > upToSeq);
    const gone = this.segments.filter(({ entries }) => entries.length === 0);
    if (gone.length > 0) this.segments = this.segments.filter(({ entries }) => entries.length > 0);
    return gone;
  }
}
