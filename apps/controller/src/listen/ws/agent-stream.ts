import { pause } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import {
  type AgentMessage,
  type CommandAnswer,
  type Connect,
  type ControllerMessage,
  eventToJson,
  type GoAway,
  heartbeatToJson,
  type VmEvent,
  WireError,
} from "@mig/protocol";
import type { WebSocket } from "ws";
import { toMigError } from "../error.ts";
import { logAgentError } from "../stream/agent-error.ts";
import { Lane } from "../stream/lane.ts";
import { refusal } from "../stream/refusal.ts";
import { SessionSlot } from "../stream/session-slot.ts";
import { readFrame } from "./incoming.ts";
import { Outgoing } from "./outgoing.ts";
import { createPaceLimit, framePace } from "./pace-limit.ts";
import { type Closing, closingOf, finished, notText, toClosing, tooFast, tooSlow } from "./status.ts";
import { watchSocket } from "./watch-socket.ts";
import type { Handshake, WsParts } from "./ws-parts.ts";

/**
 * One WebSocket of one VM; whose it is was told and proven by the handshake.
 *
 * quiet   a client without our subprotocol (seed 003, option 1): it gets commands and nothing else, at once and without
 *         saying `connect`, and answers `{command_id, status}`
 * silent  a client with it, until it says `connect`; ended when it does not
 * open    there is a session: commands come down. A further `connect` opens a new one
 * ended   by either side; the session is closed, what waits is dropped (and sent again by an agent that can)
 *
 * Messages are taken one after the other; while one is being dealt with the socket is not read.
 */
const underWayMax = { event: 500, answer: 100 };
const waitingBytesMax = 4 * 1024 * 1024;

export class AgentStream {
  readonly #socket: WebSocket;
  readonly #handshake: Handshake;
  readonly #parts: WsParts;
  readonly #out: Outgoing;
  readonly #end = new AbortController();
  readonly #slot: SessionSlot;
  readonly #events: Lane<VmEvent>;
  readonly #answers: Lane<CommandAnswer>;
  readonly #mayCome = createPaceLimit(framePace);
  readonly #frames: Buffer[] = [];
  #isTaking = false;
  #hasBeenHeard = true;
  #hasGreeted = false;
  #protocolVersion = 0;
  #isLeaving = false;

  constructor(socket: WebSocket, handshake: Handshake, parts: WsParts) {
    this.#socket = socket;
    this.#handshake = handshake;
    this.#parts = parts;
    this.#out = new Outgoing(socket);
    const { desk, retryMs } = parts;
    const { vmId } = handshake;
    this.#slot = new SessionSlot({
      channel: "websocket",
      desk,
      retryMs,
      send: (message) => this.#out.send(message),
      onEnd: (goAway) => this.#leave(goAway),
      signal: this.#end.signal,
    });
    const refused = (_: unknown[], error: unknown): void => this.#notify(error);
    const lane = { bytesMax: waitingBytesMax, retryMs, refused };
    this.#events = new Lane<VmEvent>({
      ...lane,
      max: underWayMax.event,
      batchMax: underWayMax.event,
      work: async (events) => this.#tell({ kind: "event_ack", ack: await desk.recordEvents(vmId, events) }),
    });
    this.#answers = new Lane<CommandAnswer>({
      ...lane,
      max: underWayMax.answer,
      batchMax: 1,
      work: async ([answer]) => {
        if (answer !== undefined) await desk.answer(vmId, answer, this.#protocolVersion === 0);
      },
    });
    this.#listen();
    if (handshake.knowsKinds) {
      void pause(parts.idleMs, this.#end.signal).then(() => {
        if (!this.#hasGreeted) this.#finish({ code: 4408, reason: "connect did not come in time" });
      });
    } else {
      const connect = { vmId, poolId: "", version: "", protocolVersion: 0 };
      void this.#connect(connect).catch((error: unknown) => this.#fail(error));
    }
    void watchSocket(socket, {
      pingMs: parts.pingMs,
      signal: this.#end.signal,
      wasHeard: () => {
        const wasHeard = this.#hasBeenHeard || this.#isTaking;
        this.#hasBeenHeard = false;
        return wasHeard;
      },
      recheck: () => handshake.recheck(),
      onOver: (error) => this.#finish(toClosing(error)),
    });
  }

  /** The controller stops: agents come back spread over some seconds. */
  sayGoodbye(graceMs: number): void {
    this.#leave({
      reason: "shutting_down",
      reconnectAfterMs: Math.round(500 + Math.random() * 2_000),
      deadlineMs: Math.min(graceMs, 500),
    });
  }

  #listen(): void {
    const socket = this.#socket;
    const heard = (): boolean => {
      this.#hasBeenHeard = true;
      if (this.#mayCome() || this.#end.signal.aborted) return true;
      this.#finish(tooFast);
      return false;
    };
    socket.on("message", (data: Buffer, isBinary) => {
      if (!heard() || this.#end.signal.aborted) return;
      if (isBinary) return this.#finish(notText);
      this.#frames.push(data);
      if (!this.#isTaking) void this.#takeAll();
    });
    socket.on("ping", heard);
    socket.on("pong", heard);
    // A frame that breaks the protocol; ws closes with the code of RFC 6455 §7.4.1 by itself.
    socket.on("error", (error) =>
      this.#parts.log.debug({ vm_id: this.#handshake.vmId, error }, "a socket broke"),
    );
    socket.once("close", () => this.#finish(finished));
  }

  async #takeAll(): Promise<void> {
    this.#isTaking = true;
    this.#socket.pause();
    for (let frame = this.#frames.shift(); frame !== undefined; frame = this.#frames.shift()) {
      try {
        const messages = readFrame(frame, this.#handshake.vmId);
        const bytes = frame.length / messages.length;
        for (const message of messages) if (!this.#end.signal.aborted) await this.#take(message, bytes);
      } catch (error) {
        this.#fail(error);
      }
    }
    this.#isTaking = false;
    this.#socket.resume();
  }

  async #take(message: AgentMessage, bytes: number): Promise<void> {
    const { vmId, knowsKinds } = this.#handshake;
    if (message.kind !== "connect" && knowsKinds && !this.#slot.isOpen) throw new WireError("connect first");
    switch (message.kind) {
      case "connect":
        return this.#connect(message.connect);
      case "event":
        this.#parts.files?.keep(
          vmId,
          { file: "event", type: message.event.type },
          eventToJson(message.event),
        );
        return this.#events.push(this.#handshake.own(message.event), bytes);
      case "heartbeat": {
        this.#parts.files?.keep(vmId, { file: "heartbeat" }, heartbeatToJson(message.heartbeat));
        const reply = await this.#parts.desk.beat(vmId, this.#handshake.own(message.heartbeat));
        return this.#tell({ kind: "heartbeat_ack", reply });
      }
      case "ack":
        return this.#answers.push(message.answer, bytes);
      case "error":
        return logAgentError(this.#parts.log, vmId, message.error);
    }
  }

  async #connect(connect: Connect): Promise<void> {
    this.#hasGreeted = true;
    this.#protocolVersion = connect.protocolVersion;
    const { vmId } = this.#handshake;
    try {
      if (connect.vmId !== vmId) throw new MigError("vm_mismatch", `this is the socket of ${vmId}`);
      const session = await this.#slot.open(this.#handshake.own(connect));
      if (session === undefined) return;
      this.#tell({ kind: "connect_ack", reply: session.reply });
      session.ready();
    } catch (thrown) {
      const error = toMigError(thrown);
      this.#parts.log.info({ vm_id: vmId, code: error.code, reason: error.message }, "a socket was refused");
      const closing = toClosing(error);
      this.#tell({ kind: "connect_ack", reply: refusal(closing.reason) });
      this.#finish(closing);
    }
  }

  /** What a message brought about. One that cannot be read ends the socket; the rest is told and life goes on. */
  #fail(thrown: unknown): void {
    const error = toMigError(thrown);
    if (thrown instanceof WireError) this.#finish(toClosing(error));
    else if (error.code === "incarnation_lost") {
      this.#leave({ reason: "incarnation_lost", reconnectAfterMs: 60_000, deadlineMs: 0 });
    } else this.#notify(error);
  }

  #leave(goAway: GoAway): void {
    if (this.#isLeaving) return;
    this.#isLeaving = true;
    const closing = closingOf(goAway.reason);
    if (!this.#understands("go_away") || !this.#out.send({ kind: "go_away", goAway })) this.#finish(closing);
    else void pause(goAway.deadlineMs, this.#end.signal).then(() => this.#finish(closing));
  }

  #notify(thrown: unknown): void {
    const error = toMigError(thrown);
    if (error.code === "internal")
      this.#parts.log.error({ vm_id: this.#handshake.vmId, error }, "a message was not dealt with");
    const message = toClosing(error).reason;
    this.#tell({ kind: "error", error: { code: error.code, message, details: {}, atMs: Date.now() } });
  }

  #tell(message: ControllerMessage): void {
    if (this.#end.signal.aborted || !this.#understands(message.kind) || this.#out.send(message)) return;
    this.#leave({ reason: "slow_consumer", reconnectAfterMs: 1_000, deadlineMs: 0 });
  }

  /** Seed 003 takes whatever comes for a command: an agent of its kind must get nothing else. */
  #understands(kind: ControllerMessage["kind"]): boolean {
    return kind === "command" || this.#handshake.knowsKinds || this.#protocolVersion > 0;
  }

  #finish(closing: Closing): void {
    if (this.#end.signal.aborted) return;
    this.#end.abort();
    this.#slot.close();
    this.#events.close();
    this.#answers.close();
    this.#frames.length = 0;
    this.#socket.resume(); // so that the end of the connection is seen
    if (closing === tooSlow) this.#socket.terminate();
    else this.#socket.close(closing.code, closing.reason);
  }
}
