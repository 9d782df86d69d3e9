import { type Clock, type Log, systemClock } from "@mig/kit";
import { type ErrorCode, MigError } from "@mig/lifecycle";
import {
  type AgentMessage,
  type ControllerMessage,
  type EventAck,
  type GoAway,
  type HeartbeatReply,
  PROTOCOL_VERSION,
  type VmEvent,
} from "@mig/protocol";
import { decodeControllerMessage, encodeAgentMessage } from "@mig/protocol/proto";
import { boundHint } from "./bound-hint.ts";
import { type GrpcCall, type GrpcEnd, startGrpcCall } from "./grpc-call.ts";
import type { Link, LinkUp, OpenLinkListener, Speaker } from "./link.ts";

export interface GrpcLinkSettings {
  endpoint: string;
  speaker: Speaker;
  bearer?: (() => Promise<string | undefined>) | undefined;
  ca?: string | undefined;
  connectMs: number;
  answerMs: number;
  log: Log;
  clock?: Clock | undefined;
}

/** Opens the stream, says `connect` first and resolves when the controller has accepted it. */
export async function openGrpcLink(
  settings: GrpcLinkSettings,
  listener: OpenLinkListener,
): Promise<{ link: Link; up: LinkUp }> {
  const token = await settings.bearer?.();
  return new Promise((resolve, reject) => {
    const link = new GrpcLink(settings, listener, token, (outcome) => {
      if (outcome instanceof MigError) reject(outcome);
      else resolve({ link, up: outcome });
    });
  });
}

interface Batch {
  incarnation: string | undefined;
  lastSeq: number;
  ack: EventAck | undefined;
  settle(outcome: EventAck | MigError): void;
}

/**
 * connecting  `connect` is sent; nothing else is, because existing controllers file what comes before it under ""
 * up          accepted; commands come, events and heartbeats go, one batch and one heartbeat await an answer
 * down        for good; whoever waits is told
 */
class GrpcLink implements Link {
  readonly channel = "grpc" as const;
  readonly #settings: GrpcLinkSettings;
  readonly #listener: OpenLinkListener;
  readonly #clock: Clock;
  readonly #call: GrpcCall;
  readonly #opened: (outcome: LinkUp | MigError) => void;
  #state: "connecting" | "up" | "down" = "connecting";
  #isClosing = false;
  #protocolVersion = 0;
  #batch: Batch | undefined;
  #beat: ((reply: HeartbeatReply | MigError) => void) | undefined;
  #goAway: GoAway | undefined;
  readonly #ended: Promise<void>;
  #markEnded = (): void => {};
  #cancelConnect: () => void;

  constructor(
    settings: GrpcLinkSettings,
    listener: OpenLinkListener,
    token: string | undefined,
    opened: (outcome: LinkUp | MigError) => void,
  ) {
    this.#settings = settings;
    this.#listener = listener;
    this.#clock = settings.clock ?? systemClock;
    this.#opened = opened;
    this.#ended = new Promise((resolve) => {
      this.#markEnded = resolve;
    });
    this.#call = startGrpcCall({
      endpoint: settings.endpoint,
      token,
      ca: settings.ca,
      onMessage: (bytes) => this.#receive(bytes),
      onEnd: (end) => this.#end(reasonOf(end, settings.endpoint)),
    });
    this.#cancelConnect = this.#clock.after(settings.connectMs, () =>
      this.#end(
        unreachable(`${settings.endpoint} did not accept the stream within ${settings.connectMs} ms`),
      ),
    );
    const { speaker } = settings;
    this.#send({
      kind: "connect",
      connect: {
        vmId: speaker.vmId,
        poolId: speaker.poolId,
        ...(speaker.orgId === undefined ? {} : { orgId: speaker.orgId }),
        version: speaker.version,
        incarnation: speaker.incarnation,
        protocolVersion: PROTOCOL_VERSION,
        migletState: speaker.migletState(),
      },
    }).catch(() => {}); // The end of the call says why.
  }

  async sendEvents(events: readonly VmEvent[]): Promise<EventAck> {
    const first = events[0];
    const lastSeq = events.at(-1)?.seq ?? 0;
    if (this.#batch !== undefined) throw unreachable("another batch is still unanswered");
    let settle: Batch["settle"] = () => {};
    const answered = new Promise<EventAck>((resolve, reject) => {
      settle = (outcome) => {
        if (this.#batch?.settle === settle) this.#batch = undefined;
        if (outcome instanceof MigError) reject(outcome);
        else resolve(outcome);
      };
    });
    const batch: Batch = { incarnation: first?.incarnation, lastSeq, ack: undefined, settle };
    this.#batch = batch;
    // From before the first byte: a peer that does not read may never let the last one go.
    const cancel = this.#clock.after(this.#settings.answerMs * 3, () =>
      settle(batch.ack ?? unreachable("the events were not acknowledged in time")),
    );
    const send = async (): Promise<void> => {
      for (const event of events) {
        if (this.#batch !== batch) return;
        await this.#send({ kind: "event", event });
      }
      // A controller from before MIG acknowledges no event: written is all there is to know.
      if (this.#protocolVersion === 0)
        settle({ incarnation: first?.incarnation ?? "", upToSeq: lastSeq, rejected: [] });
    };
    send().catch((error: unknown) =>
      settle(
        error instanceof MigError ? error : unreachable(`the events could not be sent: ${String(error)}`),
      ),
    );
    return answered.finally(cancel);
  }

  async sendHeartbeat(heartbeat: Parameters<Link["sendHeartbeat"]>[0]): Promise<HeartbeatReply | undefined> {
    const { answerMs } = this.#settings;
    // Controllers answer heartbeats from memory, so silence means a half-open connection (reliability-security R14);
    // one that cannot even be sent means a peer that does not read.
    const cancel = this.#clock.after(answerMs, () =>
      this.#end(unreachable(`the heartbeat was not answered within ${answerMs} ms`)),
    );
    try {
      const answered = new Promise<HeartbeatReply>((resolve, reject) => {
        this.#beat = (outcome) => {
          this.#beat = undefined;
          if (outcome instanceof MigError) reject(outcome);
          else resolve(outcome);
        };
      });
      answered.catch(() => {}); // A send that fails first tells the caller.
      await this.#send({ kind: "heartbeat", heartbeat });
      return this.#protocolVersion === 0 ? undefined : await answered;
    } finally {
      cancel();
    }
  }

  async answer(answer: Parameters<Link["answer"]>[0]): Promise<void> {
    await this.#send({ kind: "ack", answer });
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

  #send(message: AgentMessage): Promise<void> {
    return this.#call.send(encodeAgentMessage(message));
  }

  #receive(bytes: Uint8Array): void {
    let message: ControllerMessage | undefined;
    try {
      message = decodeControllerMessage(bytes, this.#clock.nowMs());
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
        this.#acknowledge(message.ack);
        break;
      case "heartbeat_ack":
        this.#beat?.(message.reply);
        break;
      case "go_away":
        this.#goAway = message.goAway;
        this.#listener.onGoAway(message.goAway);
        break;
      case "error":
        this.#settings.log.warn({ ...message.error }, "The controller reports an error.");
        break;
    }
  }

  #accept(reply: Extract<ControllerMessage, { kind: "connect_ack" }>["reply"]): void {
    if (this.#state !== "connecting") return;
    if (!reply.accepted) {
      this.#end(new MigError("controller_refused", reply.message));
      return;
    }
    this.#state = "up";
    this.#cancelConnect();
    this.#protocolVersion = reply.protocolVersion;
    this.#opened({
      channel: "grpc",
      protocolVersion: reply.protocolVersion,
      epoch: reply.epoch,
      ackedSeq: reply.ackedSeq,
      ...(reply.heartbeatIntervalMs > 0 ? { heartbeatIntervalMs: reply.heartbeatIntervalMs } : {}),
    });
  }

  #acknowledge(ack: EventAck): void {
    const batch = this.#batch;
    if (batch === undefined) return;
    if (ack.incarnation !== "" && batch.incarnation !== undefined && ack.incarnation !== batch.incarnation)
      return;
    batch.ack = {
      ...ack,
      upToSeq: Math.max(ack.upToSeq, batch.ack?.upToSeq ?? 0),
      rejected: [...(batch.ack?.rejected ?? []), ...ack.rejected],
    };
    if (batch.ack.upToSeq >= batch.lastSeq || ack.rejected.some((one) => !one.permanent))
      batch.settle(batch.ack);
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
            retryAfterMs: hintMs,
          });
    this.#state = "down";
    this.#cancelConnect();
    this.#call.destroy();
    this.#batch?.settle(reason);
    this.#beat?.(reason);
    this.#markEnded();
    if (!wasUp) this.#opened(reason);
    else if (!this.#isClosing) this.#listener.onDown(reason);
  }
}

const unreachable = (message: string): MigError => new MigError("controller_unreachable", message);

/** gRPC statuses that say something about this VM; every other end means: come back later. */
const codeOfStatus: Readonly<Record<number, ErrorCode>> = { 7: "forbidden", 16: "unauthenticated" };

function reasonOf(end: GrpcEnd, endpoint: string): MigError {
  const code = end.status === undefined ? undefined : codeOfStatus[end.status];
  const status = end.status === undefined ? "" : ` (status ${end.status})`;
  return new MigError(
    code ?? "controller_unreachable",
    `The stream to ${endpoint} ended${status}: ${end.message}.`,
  );
}
