/** GitHub's clock, which need not be ours: its `Date` header and its word on JWTs go by it (runner-contract §8.2). */
export class GithubClock {
  /** Ahead of this machine's clock when positive. */
  skewMs: number;

  constructor(skewMs = 0) {
    this.skewMs = skewMs;
  }

  nowMs(): number {
    return Date.now() + this.skewMs;
  }

  /** What GitHub would call a moment of this machine's clock; whole seconds, as GitHub writes its expiries. */
  iso(atMs: number = Date.now()): string {
    return new Date(atMs + this.skewMs).toISOString().replace(/\.\d+Z$/, "Z");
  }

  /** IMF-fixdate (RFC 9110 §5.6.7). */
  httpDate(inSeconds = 0): string {
    return new Date(this.nowMs() + inSeconds * 1000).toUTCString();
  }

  epoch(inSeconds = 0): number {
    return Math.floor(this.nowMs() / 1000) + inSeconds;
  }
}
