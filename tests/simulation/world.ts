/** Time and chance of one simulated life: everything that happens is drawn from the seed. */
export class World {
  nowMs = 1_700_000_000_000;
  /** Until then messages are lost, late and doubled, and programs crash. */
  readonly faultsEndMs: number;
  /** The network carries nothing until then. */
  cutUntilMs = 0;
  readonly #queue: { atMs: number; order: number; run: () => void; isOff: boolean }[] = [];
  #order = 0;
  #seed: number;

  constructor(seed: number, faultsForMs: number) {
    this.#seed = seed >>> 0;
    this.faultsEndMs = this.nowMs + faultsForMs;
  }

  /** mulberry32: small, fast, good enough to be unfair in every way. */
  random(): number {
    this.#seed = (this.#seed + 0x6d2b79f5) >>> 0;
    let t = this.#seed;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  }

  between(low: number, high: number): number {
    return low + Math.floor(this.random() * (high - low + 1));
  }

  chance(probability: number): boolean {
    return this.random() < probability;
  }

  get isFaulty(): boolean {
    return this.nowMs < this.faultsEndMs;
  }

  after(delayMs: number, run: () => void): () => void {
    this.#order += 1;
    const entry = { atMs: this.nowMs + Math.max(0, delayMs), order: this.#order, run, isOff: false };
    let at = this.#queue.length;
    while (at > 0 && isLater(this.#queue[at - 1], entry)) at -= 1;
    this.#queue.splice(at, 0, entry);
    return () => {
      entry.isOff = true;
    };
  }

  /** A message that may be lost, late (and so overtaken) or doubled. */
  send(deliver: () => void): void {
    if (!this.isFaulty) {
      this.after(this.between(1, 20), deliver);
      return;
    }
    if (this.nowMs < this.cutUntilMs || this.chance(0.1)) return;
    this.after(this.chance(0.1) ? this.between(1_000, 40_000) : this.between(1, 300), deliver);
    if (this.chance(0.1)) this.after(this.between(1, 60_000), deliver);
  }

  /** Runs until nothing is left, `isOver` says so, or the time is up. */
  run(untilMs: number, isOver: () => boolean): void {
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
      if (next.isOff) continue;
      if (next.atMs > untilMs) return;
      this.nowMs = next.atMs;
      next.run();
      if (isOver()) return;
    }
  }
}

function isLater(
  a: { atMs: number; order: number } | undefined,
  b: { atMs: number; order: number },
): boolean {
  return a !== undefined && (a.atMs > b.atMs || (a.atMs === b.atMs && a.order > b.order));
}

/** A broken promise, by its name in reliability-security §1.2. */
export function must(holds: boolean, promise: string, say: () => string): void {
  if (!holds) throw new Error(`${promise}: ${say()}`);
}
