import { retry } from "@mig/kit";
import type { MigError } from "@mig/lifecycle";
import type { CacheRules, SecretSource } from "./held-secret.ts";
import type { FetchedSecret } from "./provider.ts";
import { toMigError } from "./refuse.ts";
import { within } from "./within.ts";

/** Asks a store with all the patience that somebody who waits has: three attempts within `fetchMs`. */
export interface Fetcher {
  fetch(): Promise<FetchedSecret>;
  fetchPrevious(current: string): Promise<FetchedSecret | undefined>;
}

export function createFetcher(source: SecretSource, rules: CacheRules, closing: AbortSignal): Fetcher {
  const { text } = source;
  const limit = (): AbortSignal => AbortSignal.any([closing, AbortSignal.timeout(rules.fetchMs)]);

  async function inTime<T extends FetchedSecret | undefined>(
    work: Promise<T>,
    signal: AbortSignal,
  ): Promise<T> {
    const handed = work.then((found) => {
      if (signal.aborted) found?.value.dispose();
      return found;
    });
    try {
      return await within(handed, signal, `the store of ${text}`);
    } catch (error) {
      throw toMigError(error, text);
    }
  }

  return {
    fetch() {
      const signal = limit();
      return retry(() => inTime(source.fetch(signal), signal), {
        attemptsMax: 3,
        firstMs: 200,
        capMs: 2_000,
        random: rules.random,
        signal,
        classify: (error) => {
          const { code, retryAfterMs } = error as MigError;
          // A longer wait is not for somebody who waits here: the timer asks again then.
          return {
            retry: code === "secret_unavailable" && (retryAfterMs ?? 0) <= 2_000,
            hintMs: retryAfterMs,
          };
        },
      });
    },
    async fetchPrevious(current) {
      const signal = limit();
      return source.fetchPrevious === undefined
        ? undefined
        : inTime(source.fetchPrevious(current, signal), signal);
    },
  };
}
