import { MigError } from "@mig/lifecycle";
import { type ChannelParts, channelTable } from "./channels.ts";
import { explainFailure } from "./explain-failure.ts";
import type { Channel, Link, LinkUp, OpenLinkListener } from "./link.ts";
import { refusalOf } from "./refusal.ts";

/** A channel that is up. */
export interface Opened {
  link: Link;
  up: LinkUp;
  /** Resolves with the reason when the link is over. */
  down: Promise<MigError>;
  end(reason: MigError): void;
}

/** What an open link says while it goes on; `down` tells its end. */
type Announcements = Omit<OpenLinkListener, "onDown">;

/** Opens the first channel that can be opened, of those that the settings allow. */
export class ChannelOpener {
  readonly #parts: ChannelParts;
  readonly #listener: Announcements;
  readonly #channels: typeof channelTable;
  readonly #failures = new Map<Channel, string>();

  constructor(channel: "auto" | Channel, parts: ChannelParts, listener: Announcements) {
    this.#parts = parts;
    this.#listener = listener;
    this.#channels = channelTable.filter(
      ([name, how]) => (channel === "auto" || channel === name) && how(parts) !== undefined,
    );
  }

  hasBetter(than: Channel): boolean {
    return this.#better(than).length > 0;
  }

  /** When none opens: why the last one did not, or the one whose server wants the longest pause. */
  async openBest(signal: AbortSignal, betterThan?: Channel): Promise<Opened | MigError> {
    let failure: MigError | undefined;
    const channels = betterThan === undefined ? this.#channels : this.#better(betterThan);
    for (const [i, [name, how]] of channels.entries()) {
      if (signal.aborted) break;
      // While nothing is open, a channel that says nothing must not hold up the next.
      const isHurried = betterThan === undefined && i < channels.length - 1;
      const opened = await this.#open(name, how, isHurried);
      if (!(opened instanceof MigError)) return opened;
      // A refusal is about this VM, not about the channel: the next one would be refused too.
      if (refusalOf(opened) !== undefined) return opened;
      if ((opened.retryAfterMs ?? 0) >= (failure?.retryAfterMs ?? 0)) failure = opened;
    }
    return failure ?? nobody();
  }

  #better(than: Channel): typeof channelTable {
    const rank = this.#channels.findIndex(([name]) => name === than);
    return this.#channels.slice(0, Math.max(0, rank));
  }

  async #open(
    name: Channel,
    how: (typeof channelTable)[number][1],
    isHurried: boolean,
  ): Promise<Opened | MigError> {
    const { timing } = this.#parts;
    const connectMs = isHurried ? Math.min(timing.connectMs, timing.fallbackMs) : timing.connectMs;
    let markDown: (reason: MigError) => void = () => {};
    const down = new Promise<MigError>((resolve) => {
      markDown = resolve;
    });
    try {
      const opened = await how({ ...this.#parts, timing: { ...timing, connectMs } })?.({
        onCommand: (command) => this.#listener.onCommand(command),
        onGoAway: (goAway) => this.#listener.onGoAway(goAway),
        onDown: markDown,
      });
      if (opened === undefined) return nobody();
      this.#failures.delete(name);
      return { ...opened, down, end: markDown };
    } catch (cause) {
      const failure = cause instanceof MigError ? cause : unreachable(cause);
      this.#sayFailure(name, failure);
      return failure;
    }
  }

  /** Loud once for each reason and quiet at each try: what people must mend has to be seen. */
  #sayFailure(channel: Channel, error: MigError): void {
    const { log } = this.#parts;
    const isNews = this.#failures.get(channel) !== error.message;
    this.#failures.set(channel, error.message);
    if (isNews) log.warn({ error, channel }, "A channel could not be opened.");
    else log.debug({ error, channel }, "A channel could still not be opened.");
  }
}

export const nobody = (): MigError =>
  new MigError(
    "controller_unreachable",
    "No channel to the controller is open and no HTTP endpoint is configured.",
  );

function unreachable(cause: unknown): MigError {
  const why = explainFailure(cause);
  return new MigError("controller_unreachable", `A channel could not be opened: ${why}.`, { cause });
}
