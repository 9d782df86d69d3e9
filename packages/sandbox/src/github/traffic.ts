/** What an App's callers did to the stand-in: how many at once, and who came back before its time. Runners do not count. */
import type { GithubClock } from "./clock.ts";

export interface EarlyCall {
  readonly at: string;
  readonly method: string;
  readonly path: string;
  /** Of the answer that had asked for peace. */
  readonly toldStatus: number;
  /** How long after that answer was sent. A few milliseconds: it may not have arrived yet. */
  readonly afterMs: number;
  /** How much too early. */
  readonly byMs: number;
}

export interface GithubTraffic {
  readonly calls: number;
  readonly underWay: number;
  /** The most calls at the same time. */
  readonly concurrentMax: number;
  /** Answers 403 and 429 that asked for peace. */
  readonly limited: number;
  /**
   * Calls of the App, by whichever token, before a Retry-After (or a reset with nothing remaining) of a 403 or 429 had
   * ended, and more than a quarter of a second after it had been told.
   */
  readonly tooEarly: number;
  /** The latest 1,000 calls before the end of any Retry-After, also of a 5xx, and also those that crossed its answer. */
  readonly early: readonly EarlyCall[];
}

const earlyMax = 1_000;
const crossingMs = 250;

export class Traffic {
  readonly #clock: GithubClock;
  readonly #early: EarlyCall[] = [];
  #told: { readonly status: number; readonly atMs: number; readonly untilMs: number }[] = [];
  #calls = 0;
  #underWay = 0;
  #concurrentMax = 0;
  #limited = 0;
  #tooEarly = 0;

  constructor(clock: GithubClock) {
    this.#clock = clock;
  }

  enter(method: string, path: string): void {
    this.#calls += 1;
    this.#underWay += 1;
    this.#concurrentMax = Math.max(this.#concurrentMax, this.#underWay);
    const nowMs = Date.now();
    this.#told = this.#told.filter(({ untilMs }) => untilMs > nowMs);
    if (this.#told.length === 0) return;
    // The limit that it most clearly ignores: 403 and 429 before 5xx, then the one that ends last.
    const worst = this.#told.reduce((a, b) => (rank(b) > rank(a) ? b : a));
    const afterMs = nowMs - worst.atMs;
    if (worst.status < 500 && afterMs > crossingMs) this.#tooEarly += 1;
    const at = new Date(nowMs).toISOString();
    this.#early.push({ at, method, path, toldStatus: worst.status, afterMs, byMs: worst.untilMs - nowMs });
    if (this.#early.length > earlyMax) this.#early.shift();
  }

  leave(status: number, headers: Readonly<Record<string, string>>): void {
    this.#underWay -= 1;
    const untilMs = this.#peaceUntilMs(status, headers);
    if (untilMs === undefined) return;
    if (status < 500) this.#limited += 1;
    this.#told.push({ status, atMs: Date.now(), untilMs });
    if (this.#told.length > earlyMax) this.#told.shift();
  }

  report(): GithubTraffic {
    return {
      calls: this.#calls,
      underWay: this.#underWay,
      concurrentMax: this.#concurrentMax,
      limited: this.#limited,
      tooEarly: this.#tooEarly,
      early: [...this.#early],
    };
  }

  #peaceUntilMs(status: number, headers: Readonly<Record<string, string>>): number | undefined {
    if (status !== 403 && status !== 429 && status < 500) return undefined;
    const given = headers["retry-after"];
    if (given !== undefined) {
      const seconds = Number(given);
      return Number.isFinite(seconds) ? Date.now() + seconds * 1000 : Date.parse(given) - this.#clock.skewMs;
    }
    if (status >= 500 || headers["x-ratelimit-remaining"] !== "0") return undefined;
    return Number(headers["x-ratelimit-reset"]) * 1000 - this.#clock.skewMs;
  }
}

function rank({ status, untilMs }: { readonly status: number; readonly untilMs: number }): number {
  return (status < 500 ? 1e15 : 0) + untilMs;
}
