/**
 * Token buckets (reliability-security §2.7): so many a second, and so many at once after a quiet time. A key that is
 * quiet for long enough to be full again is forgotten; there are at most `keysMax`, so nobody fills the memory by making
 * up names.
 */
export class Buckets {
  readonly #perMs: number;
  readonly #burst: number;
  readonly #keysMax: number;
  /** When the bucket would be full: all there is to know of it (generic cell rate algorithm). */
  readonly #fullAtMs = new Map<string, number>();

  constructor({
    perSecond,
    burst,
    keysMax = 50_000,
  }: { perSecond: number; burst: number; keysMax?: number }) {
    this.#perMs = perSecond / 1000;
    this.#burst = burst;
    this.#keysMax = keysMax;
  }

  /** Takes one. Answers how long to wait when there is none: 0 means that it was taken. */
  take(key: string, nowMs: number): number {
    const fullAtMs = Math.max(nowMs, this.#fullAtMs.get(key) ?? nowMs);
    const wantedMs = fullAtMs + 1 / this.#perMs;
    const waitMs = wantedMs - nowMs - this.#burst / this.#perMs;
    // Sums of fractions: what is a billionth of a millisecond too early is not too early.
    if (waitMs > 1e-6) return Math.ceil(waitMs);
    // Set anew, so that the map's order is that of their last use.
    this.#fullAtMs.delete(key);
    if (this.#fullAtMs.size >= this.#keysMax) this.#forget(nowMs);
    this.#fullAtMs.set(key, wantedMs);
    return 0;
  }

  get size(): number {
    return this.#fullAtMs.size;
  }

  /** Those that are full again; if none is, those that were quiet for longest. */
  #forget(nowMs: number): void {
    let spare = Math.ceil(this.#keysMax / 10);
    for (const [key, fullAtMs] of this.#fullAtMs) {
      if (fullAtMs > nowMs && spare <= 0) continue;
      this.#fullAtMs.delete(key);
      spare -= 1;
    }
  }
}
