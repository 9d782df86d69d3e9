import type { Clock } from "@mig/kit";

/** Answers how far the wall clock was set since the last call; 0 for what is only its drift. */
export function watchJumps(clock: Clock): () => number {
  const ahead = (): number => clock.nowMs() - clock.monotonicMs();
  let aheadMs = ahead();
  return () => {
    const jumpMs = ahead() - aheadMs;
    if (Math.abs(jumpMs) < 1000) return 0;
    aheadMs += jumpMs;
    return jumpMs;
  };
}
