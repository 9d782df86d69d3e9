/** What the shared row of an App says of its pace at one moment. */
export interface PaceView {
  /** Milliseconds until the next free moment; a limit of GitHub's is in it. */
  openInMs: number;
  perMinute: number;
  perMinuteMax: number;
  /** The pace grows by so much after each minute without a limit. */
  stepUp: number;
  /** How long the present minute without a limit has lasted. */
  cleanForMs: number;
}

const minuteMs = 60_000;

/**
 * Milliseconds until the turn of who has so many before it, if GitHub goes on as it does now. The pace grows while the
 * line is served, so a division by today's pace is too long for whoever stands far behind: for the last of a thousand
 * it said 500 s at 120 a minute (405 in truth), and 1,060 s after a limit had halved the pace (603).
 */
export function etaOf(view: PaceView, ahead: number): number {
  const { openInMs, perMinuteMax, stepUp } = view;
  let atMs = Math.max(0, openInMs);
  let perMinute = Math.max(1, view.perMinute);
  let left = Math.max(0, ahead);
  // Nobody calls before `openInMs`, so a minute that ends before makes one step then, however long ago it ended.
  let stepAtMs = Math.max(atMs, minuteMs - view.cleanForMs);
  while (perMinute !== perMinuteMax) {
    const served = ((stepAtMs - atMs) * perMinute) / minuteMs;
    if (served >= left) break;
    left -= served;
    atMs = stepAtMs;
    perMinute = Math.min(perMinute + stepUp, perMinuteMax);
    stepAtMs = atMs + minuteMs;
  }
  return atMs + (left * minuteMs) / perMinute;
}
