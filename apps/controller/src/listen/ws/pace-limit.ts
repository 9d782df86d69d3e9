/**
 * A bucket of turns that fills again with time: how many frames a peer may send (reliability-security §5.3, W4). Many
 * events belong into one frame as an array, so that an honest agent stays far below it.
 */
export interface PaceLimit {
  perSecond: number;
  burst: number;
}

export const framePace: PaceLimit = { perSecond: 100, burst: 200 };

/** The returned function takes one turn and answers whether there was one. */
export function createPaceLimit(
  { perSecond, burst }: PaceLimit,
  nowMs = () => performance.now(),
): () => boolean {
  let turns = burst;
  let atMs = nowMs();
  return () => {
    const now = nowMs();
    turns = Math.min(burst, turns + ((now - atMs) * perSecond) / 1_000);
    atMs = now;
    if (turns < 1) return false;
    turns -= 1;
    return true;
  };
}
