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
