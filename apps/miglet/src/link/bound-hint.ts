/**
 * A server's hint of when to come back, as far as it makes sense. "At once" is no hint, because every agent would
 * come at once and again; more than an hour is a mistake of somebody's, and more than 24 days would make a timer fire
 * at once.
 */
export function boundHint(hintMs: number | undefined): number | undefined {
  if (hintMs === undefined || !(hintMs > 0)) return undefined;
  return Math.min(hintMs, 3_600_000);
}
