import type { FeedItem, Wanted } from "./item.ts";
import type { judgePlace, Place } from "./place.ts";

/** Why a follower cannot go on where it was: some of it is removed, or was never there. */
export type Gap = Exclude<ReturnType<typeof judgePlace>, "good">;

/** The listener's end of a feed. */
export interface Sink {
  /** Called once, before anything else. `gap`: it begins at another place than was asked for, `next`. */
  begin(next: Place, gap: Gap | undefined): void;
  /** What comes up to `next` is gone, in the middle of a feed. */
  reset(next: Place, gap: Gap): void;
  /** False when too much waits for the peer already; the item is then not taken. */
  send(item: FeedItem): boolean;
  /** Resolves when the peer has taken what waits for it: true; or false when it takes too long or is gone. */
  taken(): Promise<boolean>;
}

export interface Follow {
  /** Undefined: from now on. */
  readonly from: Place | undefined;
  readonly wanted: Wanted;
  readonly signal: AbortSignal;
}

export interface Following {
  /** Rejects only before `sink.begin`: with `storage_unavailable`, `overloaded` or `shutting_down`. */
  readonly ended: Promise<FollowEnd>;
  /** All that is wanted before it has been sent; undefined while it catches up. */
  livePlace(): Place | undefined;
}

/** `next`: where the follower goes on another time. */
export interface FollowEnd {
  readonly reason: "over" | "slow";
  readonly next: Place;
}

/**
 * One who follows. `next` is where it goes on. While it is live the reader's pages are sent to it as they come; one that
 * does not take them fast enough reads pages of its own again, at its own speed.
 */
export class Follower {
  readonly wanted: Wanted;
  readonly sink: Sink;
  next: Place = { row: 0, n: 0 };
  #fallBack: (() => void) | undefined;

  constructor(wanted: Wanted, sink: Sink) {
    this.wanted = wanted;
    this.sink = sink;
  }

  get isLive(): boolean {
    return this.#fallBack !== undefined;
  }

  /** Live from now on. Resolves when it has fallen behind. */
  goLive(): Promise<"behind"> {
    return new Promise((resolve) => {
      this.#fallBack = () => resolve("behind");
    });
  }

  fallBehind(): void {
    this.#fallBack?.();
    this.#fallBack = undefined;
  }
}
