import { pause } from "./clock.ts";

/**
 * Windowed full jitter: attempt n owns a window of `firstMs * 2^n` (at most `capMs`); the attempt happens at a
 * uniform point in the window and the rest of the window passes before the next one begins. Arrivals of many
 * clients stay uniform; a plain sum of jitters drifts to a bell curve. Simulated for 1,000 clients after a 3 s
 * outage: peak 255 attempts/s, against 1,000 without jitter and 308 with full jitter (reliability-security §2.6).
 */
export interface BackoffSettings {
  firstMs: number;
  capMs: number;
  random?: () => number;
}

export interface Backoff {
  /** Milliseconds to wait before the next attempt. A server's hint replaces the window and is never shortened. */
  nextMs(hintMs?: number): number;
  reset(): void;
  readonly attempts: number;
}

export function createBackoff(settings: BackoffSettings): Backoff {
  const random = settings.random ?? Math.random;
  let attempts = 0;
  let restOfWindowMs = 0;
  return {
    nextMs(hintMs) {
      if (hintMs !== undefined) {
        attempts += 1;
        restOfWindowMs = 0;
        return hintMs * (1 + 0.1 * random());
      }
      const windowMs = Math.min(settings.capMs, settings.firstMs * 2 ** Math.min(attempts, 30));
      const pointMs = random() * windowMs;
      const waitMs = restOfWindowMs + pointMs;
      restOfWindowMs = windowMs - pointMs;
      attempts += 1;
      return waitMs;
    },
    reset() {
      attempts = 0;
      restOfWindowMs = 0;
    },
    get attempts() {
      return attempts;
    },
  };
}

export interface RetrySettings extends BackoffSettings {
  attemptsMax: number;
  signal?: AbortSignal;
  /** Says whether an error is worth another attempt, and the server's hint in ms if it gave one. */
  classify(error: unknown): { retry: boolean; hintMs?: number | undefined };
}

/** Calls `attempt` until it succeeds, the error is final, the attempts are used up or the signal aborts. */
export async function retry<T>(attempt: (n: number) => Promise<T>, settings: RetrySettings): Promise<T> {
  const backoff = createBackoff(settings);
  const stopped = (): boolean => settings.signal?.aborted === true;
  for (let n = 1; ; n += 1) {
    try {
      return await attempt(n);
    } catch (error) {
      const { retry: again, hintMs } = settings.classify(error);
      if (!again || n >= settings.attemptsMax || stopped()) throw error;
      await pause(backoff.nextMs(hintMs), settings.signal);
      if (stopped()) throw error;
    }
  }
}
