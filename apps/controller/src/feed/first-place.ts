import { MigError } from "@mig/lifecycle";
import type { Place } from "./place.ts";

/** A transaction that is under way when the first follower comes has to end first: it may still add what comes before. */
const startWithinMs = 10_000;

interface Waiter {
  found(place: Place): void;
  failed(error: unknown): void;
}

/** Those who wait until the reader knows where the feed is settled. */
export class FirstPlace {
  readonly #waiters = new Set<Waiter>();

  wait(): Promise<Place> {
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        found(place) {
          clearTimeout(timer);
          resolve(place);
        },
        failed(error) {
          clearTimeout(timer);
          reject(error);
        },
      };
      const timer = setTimeout(() => {
        this.#waiters.delete(waiter);
        const about = "a transaction in the database has been under way for long, and the feed waits for it";
        reject(new MigError("overloaded", about, { retryAfterMs: 5_000 }));
      }, startWithinMs);
      this.#waiters.add(waiter);
    });
  }

  found(place: Place): void {
    for (const waiter of this.#waiters) waiter.found(place);
    this.#waiters.clear();
  }

  failed(error: unknown): void {
    for (const waiter of this.#waiters) waiter.failed(error);
    this.#waiters.clear();
  }
}
