import { type Clock, systemClock } from "@mig/kit";

/**
 * The controller's time as this VM knows it. VM clocks are days wrong when an image was suspended or a job may set
 * them (reliability-security R12), and what the controller dates (`expires_at`) can only be judged by its own clock.
 *
 * An answer that carries the server's time is a sample: it was that time somewhere within the round trip, so half of
 * it is the error. The newest good one counts: one whose error is not larger than that of the one before it has become
 * by its age. From it time is counted monotonically, so that a clock that is set moves nothing.
 */
export interface ControllerClock {
  /** What the controller's clock says now; this VM's own until there was a sample. */
  nowMs(): number;
  /** How far this VM's clock is ahead of the controller's (negative: behind); undefined until there was a sample. */
  skewMs(): number | undefined;
  /**
   * The server said `serverTimeMs` in answer to what was sent at `sentAtMs` of the monotonic clock. `coarseMs` is how
   * much earlier than the truth it may be: a second for the header Date.
   */
  note(sentAtMs: number, serverTimeMs: number, coarseMs?: number): void;
}

/** How far the VM's clock is ahead of the controller's (negative: behind), and whether that is too much. */
export interface Skew {
  readonly skewMs: number;
  readonly isOff: boolean;
}

export interface ControllerClockSettings {
  /** More than this is told. */
  toleratedMs?: number;
  /** Once when the clock is off, again when that has changed by as much, and once when it is right again. */
  onSkew?(skew: Skew): void;
  clock?: Clock;
}

/** Before MIG existed: a controller that has no time to say, says 0. */
const earliestMs = Date.UTC(2024, 0, 1);
/** Two clocks drift apart; R12 wants a twentieth to be borne. */
const driftShare = 0.05;

export function createControllerClock(settings: ControllerClockSettings = {}): ControllerClock {
  const { clock = systemClock, toleratedMs = 60_000, onSkew } = settings;
  let sample: { atMs: number; timeMs: number; errorMs: number } | undefined;
  let toldMs: number | undefined;

  const timeMs = (): number | undefined =>
    sample === undefined ? undefined : sample.timeMs + (clock.monotonicMs() - sample.atMs);
  const skewMs = (): number | undefined => {
    const now = timeMs();
    return now === undefined ? undefined : Math.round(clock.nowMs() - now);
  };
  const tell = (): void => {
    const skew = skewMs() ?? 0;
    // Half of what is tolerated, or a clock at the edge would be told for ever.
    const isOff = Math.abs(skew) > (toldMs === undefined ? toleratedMs : toleratedMs / 2);
    if (toldMs === undefined ? !isOff : isOff && Math.abs(skew - toldMs) <= toleratedMs) return;
    toldMs = isOff ? skew : undefined;
    onSkew?.({ skewMs: skew, isOff });
  };

  return {
    nowMs: () => timeMs() ?? clock.nowMs(),
    skewMs,
    note(sentAtMs, serverTimeMs, coarseMs = 0) {
      const atMs = clock.monotonicMs();
      const tripMs = atMs - sentAtMs;
      if (!Number.isFinite(serverTimeMs) || serverTimeMs < earliestMs || !(tripMs >= 0)) return;
      const errorMs = (tripMs + coarseMs) / 2;
      const grownMs =
        sample === undefined ? Number.POSITIVE_INFINITY : sample.errorMs + driftShare * (atMs - sample.atMs);
      if (errorMs > grownMs) return;
      sample = { atMs, timeMs: serverTimeMs + (tripMs + coarseMs) / 2, errorMs };
      tell();
    },
  };
}
