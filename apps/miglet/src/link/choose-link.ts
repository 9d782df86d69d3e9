import { type Backoff, type Clock, createBackoff, type Log, pause, systemClock } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import type { CommandAnswer, Heartbeat, HeartbeatReply } from "@mig/protocol";
import { BetterLink } from "./better-link.ts";
import type { ChannelParts } from "./channels.ts";
import { type Channel, channelsByHttp, type Link, type LinkListener } from "./link.ts";
import { type LinkTiming, usualTiming } from "./link-timing.ts";
import { ChannelOpener, nobody, type Opened } from "./open-channel.ts";
import { refusalOf } from "./refusal.ts";
import { createUnsentAnswers, type UnsentAnswers } from "./unsent-answers.ts";

export type { LinkTiming } from "./link-timing.ts";

export interface ChooseLinkSettings extends Omit<ChannelParts, "timing" | "clock" | "cursor"> {
  channel: "auto" | Channel;
  timing?: Partial<LinkTiming>;
  clock?: Clock;
}

/**
 * The one link of the agent. As a `Link` it sends over the live channel, else by HTTP, else it rejects with
 * `controller_unreachable`. Answers that nobody took are kept and sent when a channel opens.
 */
export interface ChosenLink extends Omit<Link, "channel"> {
  /** Begins to connect, and goes on for ever until `close`. Calling it again does nothing. */
  open(): void;
  /** The channel that is up now. */
  channel(): Channel | undefined;
}

export function createChosenLink(settings: ChooseLinkSettings, listener: LinkListener): ChosenLink {
  return new LinkChooser(settings, listener);
}

/**
 * waiting   nothing is open; a windowed backoff runs, or the server's own hint (reliability-security §2.6)
 * trying    the channels in the order of their table, until one opens
 * live      one link; unless it is of the best channel, better ones are tried now and then and take over
 * refused   the controller does not want this VM: said to the agent, tried again slowly, never given up
 *           (go-agent-wire A5: a refused agent must not become a zombie)
 */
class LinkChooser implements ChosenLink {
  readonly #parts: ChannelParts;
  readonly #opener: ChannelOpener;
  readonly #timing: LinkTiming;
  readonly #listener: LinkListener;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #closing = new AbortController();
  readonly #answers: UnsentAnswers;
  readonly #reconnect: Backoff;
  readonly #refused: Backoff;
  #live: Link | undefined;
  #endLive: (reason: MigError) => void = () => {};
  /** The last end that was announced was that of our token. */
  #hasExpired = false;
  /** Each token ends at a time of its own, so whoever had a stream for a while need not be spread. */
  #comesBackAtOnce = false;
  #running: Promise<void> | undefined;

  constructor({ channel, ...settings }: ChooseLinkSettings, listener: LinkListener) {
    this.#timing = { ...usualTiming, ...settings.timing };
    this.#clock = settings.clock ?? systemClock;
    this.#parts = { ...settings, timing: this.#timing, clock: this.#clock, cursor: {} };
    this.#opener = new ChannelOpener(channel, this.#parts, {
      onCommand: (command) => listener.onCommand(command),
      onGoAway: (goAway) => {
        this.#hasExpired = goAway.reason === "token_expired";
        listener.onGoAway(goAway);
      },
    });
    this.#listener = listener;
    this.#log = settings.log;
    const { reconnectFirstMs, reconnectCapMs, refusedFirstMs, refusedCapMs } = this.#timing;
    this.#reconnect = createBackoff({ firstMs: reconnectFirstMs, capMs: reconnectCapMs });
    this.#refused = createBackoff({ firstMs: refusedFirstMs, capMs: refusedCapMs });
    this.#answers = createUnsentAnswers({
      way: () => {
        const to = this.#live ?? settings.http;
        if (to === undefined) return undefined;
        return (answer) => ("answer" in to ? to.answer(answer) : to.answerCommand(answer));
      },
      againMs: this.#timing.pollPauseMs,
      log: this.#log,
      clock: this.#clock,
    });
  }

  open(): void {
    this.#running ??= this.#run();
  }

  channel(): Channel | undefined {
    return this.#live?.channel;
  }

  async sendEvents(events: Parameters<Link["sendEvents"]>[0]): ReturnType<Link["sendEvents"]> {
    const { http } = this.#parts;
    if (this.#live !== undefined) return this.#live.sendEvents(events);
    if (http !== undefined) return http.postEvents(events);
    throw nobody();
  }

  async sendHeartbeat(beat: Heartbeat): Promise<HeartbeatReply | undefined> {
    const { http } = this.#parts;
    if (this.#live !== undefined) {
      try {
        return await this.#live.sendHeartbeat(beat);
      } catch (error) {
        if (http === undefined || (this.#live !== undefined && channelsByHttp.has(this.#live.channel)))
          throw this.#noteRefusal(error);
        this.#log.debug({ error }, "The heartbeat goes by HTTP.");
      }
    }
    if (http === undefined) throw nobody();
    try {
      return await http.postHeartbeat(beat);
    } catch (error) {
      throw this.#noteRefusal(error);
    }
  }

  answer(answer: CommandAnswer): Promise<void> {
    return this.#answers.send(answer);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#answers.close();
    this.#endLive(new MigError("controller_unreachable", "The agent closes its link."));
    await this.#running;
    this.#live = undefined;
  }

  async #run(): Promise<void> {
    while (!this.#closing.signal.aborted) {
      const opened = await this.#opener.openBest(this.#closing.signal);
      const reason = opened instanceof MigError ? opened : await this.#liveWith(opened);
      if (this.#closing.signal.aborted) return;
      const waitMs = this.#waitMs(reason);
      await pause(this.#comesBackAtOnce ? 0 : waitMs, this.#closing.signal);
      this.#comesBackAtOnce = false;
    }
  }

  #waitMs(reason: MigError): number {
    const refusal = refusalOf(reason);
    if (refusal === undefined) return this.#reconnect.nextMs(reason.retryAfterMs);
    this.#listener.onRefused(refusal);
    return this.#refused.nextMs(reason.retryAfterMs);
  }

  /** Lives with this link, or with a better one that takes its place, until it is over. */
  async #liveWith(first: Opened): Promise<MigError> {
    let current = first;
    for (;;) {
      const startedMs = this.#clock.monotonicMs();
      this.#live = current.link;
      this.#endLive = current.end;
      if (this.#closing.signal.aborted) current.end(nobody());
      else this.#listener.onUp(current.up);
      await this.#answers.sendAll();
      const better = new BetterLink(this.#opener, current.link.channel, this.#timing);
      let ending = await Promise.race([current.down, better.found]);
      // The controller ends a link when a newer one has opened, and may be heard on this one first.
      if (ending instanceof MigError) ending = (await better.atThisMoment()) ?? ending;
      better.stop();
      if (!(ending instanceof MigError)) {
        await current.link.close();
        current = ending;
        continue;
      }
      this.#live = undefined;
      await current.link.close();
      if (this.#clock.monotonicMs() - startedMs >= this.#timing.stableMs) {
        this.#reconnect.reset();
        this.#refused.reset();
        this.#comesBackAtOnce = this.#hasExpired;
      }
      this.#hasExpired = false;
      if (!this.#closing.signal.aborted) this.#listener.onDown(ending);
      return ending;
    }
  }

  #noteRefusal(error: unknown): unknown {
    const refusal = error instanceof MigError ? refusalOf(error) : undefined;
    if (refusal !== undefined) this.#listener.onRefused(refusal);
    return error;
  }
}
