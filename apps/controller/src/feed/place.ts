import { MigError } from "@mig/lifecycle";

/**
 * A place in the feed: the next that is to be seen is number `n` of the row `row`. A row is one change, or all events
 * that were stored together. The same for every replica, because it is the table's.
 */
export interface Place {
  readonly row: number;
  readonly n: number;
}

/** What the table holds now. Rows up to `gone` have been removed; `last` is the newest number that was ever given. */
export interface Extent {
  readonly gone: number;
  readonly last: number;
}

export const after = (row: number): Place => ({ row: row + 1, n: 0 });

export function isBefore(a: Place, b: Place): boolean {
  return a.row === b.row ? a.n < b.n : a.row < b.row;
}

/**
 * forgotten  some of what comes next has been removed
 * unknown    the table has never been so far: the cursor is another database's, or this one was set back
 */
export function judgePlace(place: Place, { gone, last }: Extent): "good" | "forgotten" | "unknown" {
  if (place.row <= gone) return "forgotten";
  return place.row > last + 1 ? "unknown" : "good";
}

export function toCursor({ row, n }: Place): string {
  return Buffer.from(`feed:${row}.${n}`).toString("base64url");
}

/** Throws `invalid_request` for what was never a cursor of a feed. */
export function readCursor(text: string): Place {
  const plain = Buffer.from(text, "base64url").toString("utf8");
  const [, row, n] = /^feed:(\d{1,15})\.(\d{1,9})$/.exec(plain) ?? [];
  const place = { row: Number(row), n: Number(n) };
  if (row === undefined || n === undefined || toCursor(place) !== text)
    throw new MigError(
      "invalid_request",
      "the cursor (Last-Event-ID or after) is not one that a feed gave out; leave it out to begin with what comes from now on",
    );
  return place;
}
