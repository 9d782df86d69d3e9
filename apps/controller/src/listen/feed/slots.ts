import { MigError } from "@mig/lifecycle";

/** How many feeds are open: each holds a buffer, and may hold a connection for days. */
export interface FeedLimits {
  readonly streams: number;
  readonly streamsPerCaller: number;
}

const retryAfterMs = 5_000;

export class FeedSlots {
  readonly #limits: FeedLimits;
  readonly #open = new Map<string, number>();
  #all = 0;

  constructor(limits: FeedLimits) {
    this.#limits = limits;
  }

  /** Answers how to give it back. Throws `rate_limited` for a caller who has enough, `overloaded` when all are taken. */
  take(caller: string): () => void {
    const { streams, streamsPerCaller } = this.#limits;
    const own = this.#open.get(caller) ?? 0;
    if (own >= streamsPerCaller) {
      const about = `${own} feeds are open with this key (feed.streams_per_caller); close one`;
      throw new MigError("rate_limited", about, { retryAfterMs });
    }
    if (this.#all >= streams) {
      const about = `${this.#all} feeds are open on this replica (feed.streams); try another, or later`;
      throw new MigError("overloaded", about, { retryAfterMs });
    }
    this.#all += 1;
    this.#open.set(caller, own + 1);
    return () => {
      this.#all -= 1;
      const left = (this.#open.get(caller) ?? 1) - 1;
      if (left === 0) this.#open.delete(caller);
      else this.#open.set(caller, left);
    };
  }
}
