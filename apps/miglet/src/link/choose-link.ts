import { type Backoff, type Clock, createBackoff, type Log, pause, systemClock } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { type CommandAnswer, type Heartbeat, type HeartbeatReply, limits } from "@mig/protocol";
import { openGrpcLink } from "./grpc-link.ts";
import type { HttpCalls } from "./http-calls.ts";
import type { Channel, Link, LinkListener, LinkUp, OpenLinkListener, Refusal, Speaker } from "./link.ts";
import { openPollLink } from "./poll-link.ts";

export interface ChooseLinkSettings {
  channel: "auto" | Channel;
  speaker: Speaker;
  /** Undefined when no HTTP endpoint is configured: then events and heartbeats need the stream. */
  http: HttpCalls | undefined;
  /** "http://host:port", "https://host:port" or "host:port" (plaintext); undefined = no gRPC. */
  grpcEndpoint: string | undefined;
  grpcCa?: string;
  bearer?: () => Promise<string | undefined>;
  timing?: Partial<LinkTiming>;
  log: Log;
  clock?: Clock;
}

export interface LinkTiming {
  reconnectFirstMs: number;
  reconnectCapMs: number;
  /** After a refusal. */
  refusedFirstMs: number;
  refusedCapMs: number;
  /** A link that lived this long resets the backoff. */
  stableMs: number;
  /** While on poll: how long until gRPC is tried again (doubles, at most ten times this). */
  retryUpMs: number;
  connectMs: number;
  /** For the answer to a heartbeat; a batch of events has three times as long. */
  answerMs: number;
  pollWaitMs: number;
  pollPauseMs: number;
}

const defaults: LinkTiming = {
  reconnectFirstMs: 1000,
  reconnectCapMs: 15_000,
  refusedFirstMs: 30_000,
  refusedCapMs: 600_000,
  stableMs: 60_000,
  retryUpMs: 60_000,
  connectMs: 10_000,
  answerMs: 10_000,
  pollWaitMs: limits.commandWaitMsMax,
  pollPauseMs: 5000,
};

const answersKeptMax = 100;

/**
 * The one link of the agent. As a `Link` it sends over the live channel, else by HTTP, else it rejects with
 * `controller_unreachable`. Answers that nobody took are kept (newest per command, at most 100) and sent when a
 * channel opens.
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

interface Opened {
  link: Link;
  up: LinkUp;
  /** Resolves with the reason when the link is over. */
  down: Promise<MigError>;
  end(reason: MigError): void;
}

/**
 * waiting   nothing is open; a windowed backoff runs, or the server's own hint (reliability-security §2.6)
 * trying    gRPC first, then poll when gRPC cannot connect (setting `auto`)
 * live      one link; on poll gRPC is tried again now and then and takes over when it connects
 * refused   the controller does not want this VM: said to the agent, tried again slowly, never given up
 *           (go-agent-wire A5: a refused agent must not become a zombie)
 */
class LinkChooser implements ChosenLink {
  readonly #settings: ChooseLinkSettings;
  readonly #timing: LinkTiming;
  readonly #listener: LinkListener;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #closing = new AbortController();
  readonly #unsent = new Map<string, CommandAnswer>();
  readonly #reconnect: Backoff;
  readonly #refused: Backoff;
  #live: Link | undefined;
  #endLive: (reason: MigError) => void = () => {};
  #cancelAnswers: (() => void) | undefined;
  #running: Promise<void> | undefined;

  constructor(settings: ChooseLinkSettings, listener: LinkListener) {
    this.#settings = settings;
    this.#timing = { ...defaults, ...settings.timing };
    this.#listener = listener;
    this.#clock = settings.clock ?? systemClock;
    this.#log = settings.log;
    const { reconnectFirstMs, reconnectCapMs, refusedFirstMs, refusedCapMs } = this.#timing;
    this.#reconnect = createBackoff({ firstMs: reconnectFirstMs, capMs: reconnectCapMs });
    this.#refused = createBackoff({ firstMs: refusedFirstMs, capMs: refusedCapMs });
  }

  open(): void {
    this.#running ??= this.#run();
  }

  channel(): Channel | undefined {
    return this.#live?.channel;
  }

  async sendEvents(events: Parameters<Link["sendEvents"]>[0]): ReturnType<Link["sendEvents"]> {
    const { http } = this.#settings;
    if (this.#live !== undefined) return this.#live.sendEvents(events);
    if (http !== undefined) return http.postEvents(events);
    throw nobody();
  }

  async sendHeartbeat(beat: Heartbeat): Promise<HeartbeatReply | undefined> {
    const { http } = this.#settings;
    if (this.#live !== undefined) {
      try {
        return await this.#live.sendHeartbeat(beat);
      } catch (error) {
        if (http === undefined || this.#live?.channel === "poll") throw this.#noteRefusal(error);
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

  async answer(answer: CommandAnswer): Promise<void> {
    try {
      if (this.#live !== undefined) return await this.#live.answer(answer);
      if (this.#settings.http !== undefined) return await this.#settings.http.answerCommand(answer);
    } catch (error) {
      if (error instanceof MigError && isFinal(error)) {
        this.#log.warn({ error, command_id: answer.commandId }, "The controller does not want this answer.");
        return;
      }
      this.#log.info({ error, command_id: answer.commandId }, "The answer to a command waits.");
      this.#answerLater();
    }
    this.#unsent.delete(answer.commandId);
    const [oldest] = this.#unsent.keys();
    // Dropping the oldest is safe: the controller delivers that command again and gets its answer from the journal.
    if (oldest !== undefined && this.#unsent.size >= answersKeptMax) this.#unsent.delete(oldest);
    this.#unsent.set(answer.commandId, answer);
  }

  /** By HTTP an answer can fail while its channel stays up; then no opening channel would ever send it. */
  #answerLater(): void {
    if (this.#cancelAnswers !== undefined || this.#settings.http === undefined) return;
    this.#cancelAnswers = this.#clock.after(this.#timing.pollPauseMs, () => {
      this.#cancelAnswers = undefined;
      if (!this.#closing.signal.aborted) this.#sendUnsent().catch(() => {}); // `answer` tells and keeps.
    });
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#cancelAnswers?.();
    this.#endLive(new MigError("controller_unreachable", "The agent closes its link."));
    await this.#running;
    this.#live = undefined;
  }

  async #run(): Promise<void> {
    while (!this.#closing.signal.aborted) {
      const opened = await this.#openBest();
      const reason = opened instanceof MigError ? opened : await this.#liveWith(opened);
      if (this.#closing.signal.aborted) return;
      await pause(this.#waitMs(reason), this.#closing.signal);
    }
  }

  #waitMs(reason: MigError): number {
    const refusal = refusalOf(reason);
    if (refusal === undefined) return this.#reconnect.nextMs(reason.retryAfterMs);
    this.#listener.onRefused(refusal);
    return this.#refused.nextMs(reason.retryAfterMs);
  }

  async #openBest(): Promise<Opened | MigError> {
    const { channel } = this.#settings;
    const first = channel === "poll" ? undefined : await this.#openGrpc();
    if (first !== undefined && !(first instanceof MigError)) return first;
    // A refusal is about this VM, not about the channel: the other one would be refused too.
    if (first !== undefined && (channel === "grpc" || refusalOf(first) !== undefined)) return first;
    const second = await this.#openPoll();
    return second ?? first ?? nobody();
  }

  async #openGrpc(): Promise<Opened | MigError | undefined> {
    const { grpcEndpoint, speaker, bearer, grpcCa, log, clock } = this.#settings;
    if (grpcEndpoint === undefined) return undefined;
    const { connectMs, answerMs } = this.#timing;
    return this.#openOne((listener) =>
      openGrpcLink(
        { endpoint: grpcEndpoint, speaker, bearer, ca: grpcCa, connectMs, answerMs, log, clock },
        listener,
      ),
    );
  }

  async #openPoll(): Promise<Opened | MigError | undefined> {
    const { http, speaker, clock } = this.#settings;
    if (http === undefined) return undefined;
    const { pollWaitMs, pollPauseMs } = this.#timing;
    return this.#openOne((listener) =>
      openPollLink({ http, speaker, waitMs: pollWaitMs, pauseMs: pollPauseMs, clock }, listener),
    );
  }

  async #openOne(
    open: (listener: OpenLinkListener) => Promise<{ link: Link; up: LinkUp }>,
  ): Promise<Opened | MigError> {
    let markDown: (reason: MigError) => void = () => {};
    const down = new Promise<MigError>((resolve) => {
      markDown = resolve;
    });
    try {
      const opened = await open({
        onCommand: (command) => this.#listener.onCommand(command),
        onGoAway: (goAway) => this.#listener.onGoAway(goAway),
        onDown: markDown,
      });
      return { ...opened, down, end: markDown };
    } catch (error) {
      this.#log.debug({ error }, "A channel could not be opened.");
      return error instanceof MigError
        ? error
        : new MigError("controller_unreachable", "A channel could not be opened.", { cause: error });
    }
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
      await this.#sendUnsent();
      const better = new AbortController();
      const ending = await Promise.race([
        current.down,
        current.link.channel === "poll" ? this.#findBetter(better.signal) : new Promise<never>(() => {}),
      ]);
      better.abort();
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
      }
      if (!this.#closing.signal.aborted) this.#listener.onDown(ending);
      return ending;
    }
  }

  async #findBetter(signal: AbortSignal): Promise<Opened> {
    const { channel, grpcEndpoint } = this.#settings;
    for (let n = 0; channel === "auto" && grpcEndpoint !== undefined; n += 1) {
      await pause(this.#timing.retryUpMs * Math.min(2 ** n, 10), signal);
      if (signal.aborted) break;
      const opened = await this.#openGrpc();
      if (opened === undefined || opened instanceof MigError) continue;
      if (!signal.aborted) return opened;
      await opened.link.close();
    }
    return new Promise<never>(() => {});
  }

  async #sendUnsent(): Promise<void> {
    for (const [id, answer] of [...this.#unsent]) {
      this.#unsent.delete(id);
      await this.answer(answer);
    }
  }

  #noteRefusal(error: unknown): unknown {
    const refusal = error instanceof MigError ? refusalOf(error) : undefined;
    if (refusal !== undefined) this.#listener.onRefused(refusal);
    return error;
  }
}

const nobody = (): MigError =>
  new MigError(
    "controller_unreachable",
    "No channel to the controller is open and no HTTP endpoint is configured.",
  );

/** A controller that does not know a command, or has its result, will not take it later either. */
function isFinal({ code }: MigError): boolean {
  return ["not_found", "conflict", "refused", "invalid_request", "payload_too_large"].includes(code);
}

function refusalOf(error: MigError): Refusal | undefined {
  switch (error.code) {
    case "controller_refused":
    case "incarnation_lost":
    case "unauthenticated":
    case "forbidden":
      return { code: error.code, message: error.message };
    case "vm_mismatch":
      return { code: "forbidden", message: error.message };
    default:
      return undefined;
  }
}
