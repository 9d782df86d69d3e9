import { type Clock, systemClock } from "@mig/kit";
import { MigError } from "@mig/lifecycle";

/**
 * A server that says "not before" (429 or 503 with Retry-After) is obeyed whoever asks again: until then a call of the
 * same kind fails here, with the time that is left as its hint, and nothing travels. Jitter is the caller's: backoffs
 * stretch a hint, and heartbeats have a beat of their own.
 */
export interface HoldOff {
  /** Runs `call` unless its kind is held off; `longestMs` bounds what the server may ask for. */
  run<T>(kind: string, call: () => Promise<T>, longestMs?: number): Promise<T>;
}

export function createHoldOff(clock: Clock = systemClock): HoldOff {
  const held = new Map<string, { untilMs: number; error: MigError }>();
  return {
    async run(kind, call, longestMs = Number.POSITIVE_INFINITY) {
      const hold = held.get(kind);
      const leftMs = hold === undefined ? 0 : hold.untilMs - clock.monotonicMs();
      if (hold !== undefined && leftMs > 0)
        throw new MigError(hold.error.code, `${hold.error.message} (not asked again before it said to)`, {
          retryAfterMs: leftMs,
        });
      held.delete(kind);
      try {
        return await call();
      } catch (error) {
        const hintMs = error instanceof MigError ? error.retryAfterMs : undefined;
        if (error instanceof MigError && hintMs !== undefined) {
          held.set(kind, { untilMs: clock.monotonicMs() + Math.min(hintMs, longestMs), error });
        }
        throw error;
      }
    },
  };
}
