/**
 * Time as the rest of the code sees it. `nowMs` is wall time and may jump; `monotonicMs` never goes back
 * and is what durations, deadlines and liveness are measured with (reliability-security R12, R13).
 */
export interface Clock {
  nowMs(): number;
  monotonicMs(): number;
  /** Calls `run` once after `delayMs`. The returned function cancels; it may be called at any time. */
  after(delayMs: number, run: () => void): () => void;
}

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  after(delayMs, run) {
    const timer = setTimeout(run, delayMs);
    return () => clearTimeout(timer);
  },
};

/** Resolves after `delayMs`, or at once when `signal` aborts. Never rejects: callers look at the signal. */
export function pause(delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted === true) return resolve();
    const done = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, delayMs);
    signal?.addEventListener("abort", done, { once: true });
  });
}
