import { pause } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { type ControllerMessage, type GoAway, type NatsPeer, natsWords, WireError } from "@mig/protocol";
import type { Msg, Subscription } from "@nats-io/transport-node";
import { renderError, toMigError } from "../error.ts";
import { logAgentError } from "../stream/agent-error.ts";
import { SessionSlot } from "../stream/session-slot.ts";
import type { Standing } from "../stream/standing.ts";
import { readFrame } from "../ws/incoming.ts";
import { createPaceLimit } from "../ws/pace-limit.ts";
import type { NatsParts } from "./nats-parts.ts";
import { Outgoing } from "./outgoing.ts";

/** Heartbeats and signs of life of one VM. */
const livePace = { perSecond: 20, burst: 100 };

/**
 * One link of one VM on NATS. There is no connection between the two: this replica has the session because it took the
 * `connect`, and listens on the link's own subject for what is worth something only now.
 *
 * opening  its box of commands is being made
 * open     commands go into the box; heartbeats and pings are answered here, events and answers by any replica
 * ended    by either side, or because nothing came for a while; commands then wait in the table
 */
export class AgentStream {
  readonly #peer: NatsPeer;
  readonly #parts: NatsParts;
  readonly #standing: Standing;
  readonly #out: Outgoing;
  readonly #end = new AbortController();
  readonly #slot: SessionSlot;
  readonly #mayCome = createPaceLimit(livePace);
  readonly #live: Subscription;
  readonly #onEnd: () => void;
  #session = 0;
  #heardMs = performance.now();
  #isLeaving = false;

  constructor(peer: NatsPeer, link: string, standing: Standing, parts: NatsParts, onEnd: () => void) {
    const { names, connection, desk, retryMs, log } = parts;
    this.#peer = peer;
    this.#parts = parts;
    this.#standing = standing;
    this.#onEnd = onEnd;
    this.#out = new Outgoing(parts, peer.vmId, names.down(peer, link), log.child({ vm_id: peer.vmId }));
    this.#slot = new SessionSlot({
      channel: "nats",
      desk,
      retryMs,
      send: (message) => this.#send(message),
      onEnd: (goAway) => this.#leave(goAway),
      signal: this.#end.signal,
    });
    this.#live = connection.subscribe(names.live(peer, link), {
      callback: (error, message) => {
        if (error === null) void this.#hear(message).catch((thrown: unknown) => this.#fail(thrown));
      },
    });
  }

  /** The `connect` of the link. */
  async open(body: Uint8Array): Promise<void> {
    const { vmId } = this.#peer;
    try {
      const [message] = readFrame(Buffer.from(body), vmId);
      if (message?.kind !== "connect") throw new WireError("connect first");
      if (message.connect.vmId !== vmId) throw new MigError("vm_mismatch", `this is the subject of ${vmId}`);
      if (message.connect.protocolVersion === 0) throw new WireError("protocol_version is 1 or more");
      const session = await this.#slot.open(this.#standing.own(message.connect));
      if (session === undefined) return;
      this.#session = session.reply.epoch;
      await this.#parts.openCommandBox(vmId, this.#session);
      if (this.#end.signal.aborted) return;
      this.#out.tell({ kind: "connect_ack", reply: session.reply });
      session.ready();
      void this.#watch();
    } catch (thrown) {
      this.#notify(thrown);
      this.#finish();
    }
  }

  /** The controller stops: agents come back spread over some seconds. */
  sayGoodbye(graceMs: number): void {
    this.#leave({
      reason: "shutting_down",
      reconnectAfterMs: Math.round(500 + Math.random() * 2_000),
      deadlineMs: Math.min(graceMs, 500),
    });
  }

  async #hear({ data }: Msg): Promise<void> {
    if (this.#end.signal.aborted || !this.#mayCome()) return;
    this.#heardMs = performance.now();
    const word = data.length <= 4 ? Buffer.from(data).toString("latin1") : "";
    if (word === natsWords.bye) return this.#finish();
    await this.#standing.recheck();
    if (word === natsWords.ping) return this.#out.say("pong");
    for (const message of readFrame(Buffer.from(data), this.#peer.vmId)) {
      if (message.kind === "error") logAgentError(this.#parts.log, this.#peer.vmId, message.error);
      else if (message.kind === "heartbeat") {
        const reply = await this.#parts.desk.beat(this.#peer.vmId, this.#standing.own(message.heartbeat));
        this.#out.tell({ kind: "heartbeat_ack", reply });
      } else throw new WireError(`${message.kind} goes another way than this subject`);
    }
  }

  #send(message: ControllerMessage): boolean {
    if (message.kind === "command") return this.#out.command(message.command, this.#session);
    this.#out.tell(message);
    return true;
  }

  async #watch(): Promise<void> {
    while (!this.#end.signal.aborted) {
      const silentMs = performance.now() - this.#heardMs;
      if (silentMs >= this.#parts.silentMs) {
        this.#parts.log.info({ vm_id: this.#peer.vmId }, "an agent on NATS has fallen silent");
        return this.#leave({ reason: "silent", reconnectAfterMs: 0, deadlineMs: 0 });
      }
      await pause(this.#parts.silentMs - silentMs, this.#end.signal);
    }
  }

  #fail(thrown: unknown): void {
    const { code } = toMigError(thrown);
    if (code === "incarnation_lost") this.#leave({ reason: code, reconnectAfterMs: 60_000, deadlineMs: 0 });
    else if (code === "unauthenticated")
      this.#leave({ reason: "identity_revoked", reconnectAfterMs: 0, deadlineMs: 0 });
    else this.#notify(thrown);
  }

  #leave(goAway: GoAway): void {
    if (this.#isLeaving || this.#end.signal.aborted) return;
    this.#isLeaving = true;
    this.#out.tell({ kind: "go_away", goAway });
    if (goAway.deadlineMs <= 0) this.#finish();
    else void pause(goAway.deadlineMs, this.#end.signal).then(() => this.#finish());
  }

  #notify(thrown: unknown): void {
    const error = toMigError(thrown);
    const { vmId } = this.#peer;
    if (error.code === "internal")
      this.#parts.log.error({ vm_id: vmId, error }, "a message was not dealt with");
    else
      this.#parts.log.info({ vm_id: vmId, code: error.code, reason: error.message }, "a message was refused");
    const { message } = renderError(error, "").body.error;
    this.#out.tell({ kind: "error", error: { code: error.code, message, details: {}, atMs: Date.now() } });
  }

  #finish(): void {
    if (this.#end.signal.aborted) return;
    this.#end.abort();
    this.#slot.close();
    this.#out.say("bye");
    if (!this.#live.isClosed()) this.#live.unsubscribe();
    this.#onEnd();
  }
}
