import { type Clock, type Log, systemClock } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import {
  type ControllerMessage,
  type EventAck,
  type GoAway,
  type HeartbeatReply,
  maybe,
  PROTOCOL_VERSION,
  type VmEvent,
} from "@mig/protocol";
import { boundHint } from "./bound-hint.ts";
import type { ControllerClock } from "./controller-clock.ts";
import { EventBatch } from "./event-batch.ts";
import type { Channel, Link, LinkUp, OpenLinkListener, Speaker } from "./link.ts";
import type { StreamAccess, StreamCall, StreamKind } from "./stream-call.ts";
import type { TlsSource } from "./tls-material.ts";

export interface StreamLinkSettings {
  endpoint: string;
  speaker: Speaker;
  bearer?: (() => Promise<string | undefined>) | undefined;
  tls?: TlsSource | undefined;
  /** Learns the controller's time from connect and heartbeats. */
  controllerClock?: ControllerClock | undefined;
  connectMs: number;
  answerMs: number;
  log: Log;
  clock?: Clock | undefined;
}

/** Opens the stream, says `connect` first and resolves when the controller has accepted it. */
export async function openStreamLink(
  kind: StreamKind,
  settings: StreamLinkSettings,
  listener: OpenLinkListener,
): Promise<{ link: Link; up: LinkUp }> {
  const access = { token: await settings.bearer?.(), tls: (await settings.tls?.()) ?? {} };
  return new Promise((resolve, reject) => {
    const link = new StreamLink(kind, settings, listener, access, (outcome) => {
      if (outcome instanceof MigError) reject(outcome);
      else resolve({ link, up: outcome });
    });
  });
}

/**
 * connecting  `connect` is sent; nothing else is, because existing controllers file what comes before it under ""
 * up          accepted; commands come, events and heartbeats go, one batch and one heartbeat await an answer
 * down        for good; whoever waits is told
 */
class StreamLink implements Link {
  readonly channel: Channel;
  readonly #settings: StreamLinkSettings;
  readonly #listener: OpenLinkListener;
  readonly #clock: Clock;
  readonly #call: StreamCall;
  readonly #opened: (outcome: LinkUp | MigError) => void;
  #state: "connecting" | "up" | "down" = "connecting";
  #isClosing = false;
  #protocolVersion = 0;
  readonly #batch: EventBatch;
  #beat: ((reply: HeartbeatReply | MigError) => void) | undefined;
  #goAway: GoAway | undefined;
  readonly #ended: Promise<void>;
  #markEnded = (): void => {};
  /** Of what waits for the server: its answer to `connect`, later the end that it has announced. */
  #cancelDeadline: () => void;
  readonly #connectSentMs: number;

  constructor(
    kind: StreamKind,
    settings: StreamLinkSettings,
    listener: OpenLinkListener,
    access: StreamAccess,
    opened: (outcome: LinkUp | MigError) => void,
  ) {
    this.channel = kind.channel;
    this.#settings = settings;
    this.#listener = listener;
    this.#clock = settings.clock ?? systemClock;
    this.#opened = opened;
    this.#batch = new EventBatch(this.#clock, settings.answerMs * 3);
    this.#connectSentMs = this.#clock.monotonicMs();
    this.#ended = new Promise((resolve) => {
      this.#markEnded = resolve;
    });
    this.#call = kind.start(access, {
      onMessage: (read) => this.#receive(read),
      onEnd: (reason) => this.#end(reason),
    });
    this.#cancelDeadline = this.#clock.after(settings.connectMs, () =>
      this.#end(
        unreachable(`${settings.endpoint} did not accept the stream within ${settings.connectMs} ms`),
      ),
    );
    const { speaker } = settings;
    const sent = this.#call.send({
      kind: "connect",
      connect: {
        vmId: speaker.vmId,
        poolId: speaker.poolId,
        ...maybe("orgId", speaker.orgId),
        version: speaker.version,
        incarnation: speaker.incarnation,
        protocolVersion: PROTOCOL_VERSION,
        migletState: speaker.migletState(),
      },
    });
    sent.catch(() => {}); // The end of the call says why.
  }

  sendEvents(events: readonly VmEvent[]): Promise<EventAck> {
    return this.#batch.carry(events, this.#protocolVersion > 0, (event) =>
      this.#call.sendEvent({ kind: "event", event }),
    );
  }

  async sendHeartbeat(heartbeat: Parameters<Link["sendHeartbeat"]>[0]): Promise<HeartbeatReply | undefined> {
    const { answerMs } = this.#settings;
    // Controllers answer heartbeats from memory, so silence means a half-open connection (reliability-security R14);
    // one that cannot even be sent means a peer that does not read.
    const cancel = this.#clock.after(answerMs, () =>
      this.#end(unreachable(`the heartbeat was not answered within ${answerMs} ms`)),
    );
    const sentAtMs = this.#clock.monotonicMs();
    try {
      const answered = new Promise<HeartbeatReply>((resolve, reject) => {
        this.#beat = (outcome) => {
          this.#beat = undefined;
          if (outcome instanceof MigError) reject(outcome);
          else resolve(outcome);
        };
      });
      answered.catch(() => {}); // A send that fails first tells the caller.
      await this.#call.send({ kind: "heartbeat", heartbeat });
      if (this.#protocolVersion === 0) return undefined;
      const reply = await answered;
      this.#settings.controllerClock?.note(sentAtMs, reply.serverTimeMs);
      return reply;
    } finally {
      cancel();
    }
  }

  async answer(answer: Parameters<Link["answer"]>[0]): Promise<void> {
    await this.#call.send({ kind: "ack", answer });
  }

  async close(): Promise<void> {
    if (this.#state === "down") return;
    this.#isClosing = true;
    this.#call.finish();
    // Half-closed, the server ends the call with its own status; one that does not is not waited for.
    const cancel = this.#clock.after(500, () => this.#end(unreachable("closed by us")));
    await this.#ended;
    cancel();
  }

  #receive(read: () => ControllerMessage | undefined): void {
    let message: ControllerMessage | undefined;
    try {
      message = read();
    } catch (error) {
      this.#settings.log.warn({ error }, "A message that cannot be understood was skipped.");
    }
    if (message === undefined || this.#state === "down") return;
    switch (message.kind) {
      case "connect_ack":
        this.#accept(message.reply);
        break;
      case "command":
        this.#listener.onCommand(message.command);
        break;
      case "event_ack":
        this.#batch.acknowledge(message.ack);
        break;
      case "heartbeat_ack":
        this.#beat?.(message.reply);
        break;
      case "go_away":
        this.#goAway = message.goAway;
        this.#listener.onGoAway(message.goAway);
        this.#expectEnd(message.goAway);
        break;
      case "error":
        this.#settings.log.warn({ ...message.error }, "The controller reports an error.");
        break;
    }
  }

  #accept(reply: Extract<ControllerMessage, { kind: "connect_ack" }>["reply"]): void {
    if (this.#state !== "connecting") return;
    this.#settings.controllerClock?.note(this.#connectSentMs, reply.serverTimeMs);
    if (!reply.accepted) {
      this.#end(new MigError("controller_refused", reply.message));
      return;
    }
    this.#state = "up";
    this.#cancelDeadline();
    this.#protocolVersion = reply.protocolVersion;
    this.#opened({
      channel: this.channel,
      protocolVersion: reply.protocolVersion,
      epoch: reply.epoch,
      ackedSeq: reply.ackedSeq,
      ...(reply.heartbeatIntervalMs > 0 ? { heartbeatIntervalMs: reply.heartbeatIntervalMs } : {}),
    });
  }

  /** The server ends the stream itself; one that forgets to, or is gone by then, must not hold the agent. */
  #expectEnd({ reason, deadlineMs }: GoAway): void {
    if (this.#state !== "up") return;
    this.#cancelDeadline();
    const withinMs = (boundHint(deadlineMs) ?? 0) + this.#settings.answerMs;
    this.#cancelDeadline = this.#clock.after(withinMs, () =>
      this.#end(unreachable(`the controller said go (${reason}) and did not end the stream`)),
    );
  }

  #end(why: MigError): void {
    if (this.#state === "down") return;
    const wasUp = this.#state === "up";
    const hintMs = boundHint(this.#goAway?.reconnectAfterMs);
    const reason =
      this.#goAway === undefined || hintMs === undefined
        ? why
        : new MigError(why.code, `${why.message} (${this.#goAway.reason})`, {
            cause: why,
            retryAfterMs: Math.max(hintMs, why.retryAfterMs ?? 0),
          });
    this.#state = "down";
    this.#cancelDeadline();
    this.#call.destroy();
    this.#batch.fail(reason);
    this.#beat?.(reason);
    this.#markEnded();
    if (!wasUp) this.#opened(reason);
    else if (!this.#isClosing) this.#listener.onDown(reason);
  }
}

const unreachable = (message: string): MigError => new MigError("controller_unreachable", message);
