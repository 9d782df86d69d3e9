import type { Clock } from "@mig/kit";

/** A clock that a test turns. Whoever waits is called in the order of time. */
export class FakeClock implements Clock {
  #now = 1_000;
  readonly #waiting = new Set<{ atMs: number; run: () => void }>();

  /** Wall time that has nothing to do with the other: it is years wrong, and runs backwards. */
  nowMs = (): number => 1e9 - this.#now;
  monotonicMs = (): number => this.#now;
  after = (delayMs: number, run: () => void): (() => void) => {
    const one = { atMs: this.#now + delayMs, run };
    this.#waiting.add(one);
    return () => void this.#waiting.delete(one);
  };

  /** Milliseconds until each timer that runs. */
  timers(): number[] {
    return [...this.#waiting].map(({ atMs }) => atMs - this.#now).sort((a, b) => a - b);
  }

  /** Moves on, and lets everything happen that follows from each timer before the next one. */
  async pass(ms: number): Promise<void> {
    const untilMs = this.#now + ms;
    for (;;) {
      const [next] = [...this.#waiting].filter((one) => one.atMs <= untilMs).sort((a, b) => a.atMs - b.atMs);
      if (next === undefined) break;
      this.#now = Math.max(this.#now, next.atMs);
      this.#waiting.delete(next);
      next.run();
      await new Promise((resolve) => setImmediate(resolve));
    }
    this.#now = untilMs;
  }
}
