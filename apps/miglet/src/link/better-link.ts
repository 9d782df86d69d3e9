import { pause } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import type { Channel } from "./link.ts";
import type { LinkTiming } from "./link-timing.ts";
import type { ChannelOpener, Opened } from "./open-channel.ts";

/** How long a link that opens just as the one before it ends may take to be the next one. */
const overlapMs = 1_000;

/** While a link lives: tries better channels now and then, until one opens or nobody wants it any more. */
export class BetterLink {
  /** Resolves when there is one, and never when there is none. */
  readonly found: Promise<Opened>;
  readonly #opener: ChannelOpener;
  readonly #stop = new AbortController();
  #attempt: Promise<Opened | MigError> | undefined;
  #opened: Opened | undefined;

  constructor(opener: ChannelOpener, than: Channel, { retryUpMs }: LinkTiming) {
    this.#opener = opener;
    this.found = this.#find(than, retryUpMs);
  }

  /** The one that has just opened, or that is opening at this moment and does open. */
  async atThisMoment(): Promise<Opened | undefined> {
    if (this.#opened !== undefined) return this.#opened;
    const opened = await Promise.race([this.#attempt, pause(overlapMs)]);
    return opened === undefined || opened instanceof MigError ? undefined : opened;
  }

  /** One that opens later is closed. */
  stop(): void {
    this.#stop.abort();
  }

  async #find(than: Channel, retryUpMs: number): Promise<Opened> {
    const { signal } = this.#stop;
    for (let n = 0; this.#opener.hasBetter(than); n += 1) {
      await pause(retryUpMs * Math.min(2 ** n, 10), signal);
      if (signal.aborted) break;
      this.#attempt = this.#opener.openBest(signal, than);
      const opened = await this.#attempt;
      this.#attempt = undefined;
      if (opened instanceof MigError) continue;
      if (!signal.aborted) {
        this.#opened = opened;
        return opened;
      }
      await opened.link.close();
    }
    return new Promise<never>(() => {});
  }
}
