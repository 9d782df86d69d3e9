import { type ServerDuplexStream, status } from "@grpc/grpc-js";
import { pause } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import {
  type AgentMessage,
  type CommandAnswer,
  type Connect,
  eventToJson,
  type GoAway,
  type Heartbeat,
  heartbeatToJson,
  type VmEvent,
  WireError,
} from "@mig/protocol";
import { decodeAgentMessage } from "@mig/protocol/proto";
import { toMigError } from "../error.ts";
import { logAgentError } from "../stream/agent-error.ts";
import { Lane } from "../stream/lane.ts";
import { refusal } from "../stream/refusal.ts";
import { SessionSlot } from "../stream/session-slot.ts";
import { leaveAt } from "../stream/standing.ts";
import { Admission } from "./admission.ts";
import type { GrpcParts } from "./grpc-parts.ts";
import { Outgoing } from "./outgoing.ts";
import { toStatus } from "./status.ts";

/**
 * One gRPC stream of one VM.
 *
 * nameless  nobody has said whose stream it is. A heartbeat or an event may come before `connect` from an agent of the
 *           past (reference/go-agent-wire.md §4) and names it as well; answers to commands wait, a few of them. It
 *           needs no credentials yet, so it is ended when it stays nameless
 * named     messages about another VM are answered with an error and go nowhere
 * open      `connect` was accepted: there is a session, commands come down. A further `connect` opens a new session
 * held      an agent from before MIG was refused. Its stream stays open and silent for a while, because it would come
 *           back thousands of times a second (§10); it is ended then
 * ended     by either side; the session is closed, what waits is dropped (and sent again by an agent that can)
 *
 * Messages are taken one after the other; while one is being dealt with the stream is not read.
 */
const eventsUnderWayMax = 500;
const answersUnderWayMax = 100;
const waitingBytesMax = 4 * 1024 * 1024;
const heldAnswersMax = 16;
const heldBytesMax = 64 * 1024;

export class AgentStream {
  readonly #call: ServerDuplexStream<Uint8Array, Uint8Array>;
  readonly #parts: GrpcParts;
  readonly #out: Outgoing;
  readonly #admission: Admission;
  readonly #end = new AbortController();
  readonly #slot: SessionSlot;
  readonly #events: Lane<VmEvent>;
  readonly #answers: Lane<CommandAnswer>;
  #heldAnswers: CommandAnswer[] = [];
  #heldBytes = 0;
  #vmId: string | undefined;
  #protocolVersion = 0;
  #isLeaving = false;
  #isRefused = false;
  #leavesInTime = false;

  constructor(call: ServerDuplexStream<Uint8Array, Uint8Array>, parts: GrpcParts) {
    this.#call = call;
    this.#parts = parts;
    this.#out = new Outgoing(call);
    this.#slot = new SessionSlot({
      channel: "grpc",
      desk: parts.desk,
      retryMs: parts.retryMs,
      send: (message) => this.#out.send(message),
      onEnd: (goAway) => this.#leave(goAway),
      signal: this.#end.signal,
    });
    this.#admission = new Admission(parts, call.metadata.get("authorization"));
    const { retryMs } = parts;
    const refused = (_: unknown[], error: unknown): void => this.#notify(error);
    this.#events = new Lane<VmEvent>({
      max: eventsUnderWayMax,
      bytesMax: waitingBytesMax,
      batchMax: eventsUnderWayMax,
      retryMs,
      refused,
      work: async (events) => {
        const ack = await parts.desk.recordEvents(this.#vmId ?? "", events);
        if (this.#protocolVersion >= 1) this.#tell({ kind: "event_ack", ack });
      },
    });
    this.#answers = new Lane<CommandAnswer>({
      max: answersUnderWayMax,
      bytesMax: waitingBytesMax,
      batchMax: 1,
      retryMs,
      refused,
      work: async ([answer]) => {
        if (answer !== undefined) await parts.desk.answer(this.#vmId ?? "", answer, this.#isBeforeMig);
      },
    });
    call.on("data", (bytes: Uint8Array) => this.#read(bytes));
    call.once("end", () => this.#finish());
    call.once("cancelled", () => this.#finish());
    call.once("close", () => this.#finish());
    void pause(parts.idleMs, this.#end.signal).then(() => {
      if (this.#vmId === undefined && !this.#isLeaving) {
        this.#finish({ code: status.DEADLINE_EXCEEDED, details: "nobody has said whose stream this is" });
      }
    });
  }

  whenClosed(run: () => void): void {
    this.#end.signal.addEventListener("abort", run, { once: true });
  }

  /** The controller stops. The transport ends after `graceMs`; agents come back spread over some seconds. */
  sayGoodbye(graceMs: number): void {
    if (this.#isBeforeMig || this.#isLeaving) return; // the end of the connection is all that it understands (§10)
    this.#leave({
      reason: "shutting_down",
      reconnectAfterMs: Math.round(500 + Math.random() * 2_000),
      deadlineMs: Math.min(graceMs, 500),
    });
  }

  get #isBeforeMig(): boolean {
    return this.#protocolVersion === 0;
  }

  #read(bytes: Uint8Array): void {
    this.#call.pause();
    this.#take(bytes)
      .catch((error: unknown) => this.#fail(error))
      .finally(() => {
        if (!this.#end.signal.aborted) this.#call.resume();
      });
  }

  async #take(bytes: Uint8Array): Promise<void> {
    const message = decodeAgentMessage(bytes, Date.now());
    if (message === undefined || this.#isRefused || this.#end.signal.aborted) return;
    switch (message.kind) {
      case "connect":
        return this.#connect(message.connect);
      case "event":
        return this.#receive(message, message.event, bytes.length);
      case "heartbeat":
        return this.#receive(message, message.heartbeat, bytes.length);
      case "ack":
        return this.#takeAnswer(message.answer, bytes.length);
      case "error":
        // Before `connect` anybody could fill the log with it.
        if (this.#slot.isOpen) logAgentError(this.#parts.log, this.#vmId, message.error);
    }
  }

  async #connect(connect: Connect): Promise<void> {
    if (this.#vmId !== undefined && connect.vmId !== this.#vmId) return this.#refuseOther(connect.vmId);
    this.#protocolVersion = connect.protocolVersion;
    try {
      this.#leaveBefore(await this.#admission.admit(connect.vmId, connect));
      this.#vmId = connect.vmId;
      const session = await this.#slot.open(await this.#admission.own(connect));
      if (session === undefined) return;
      this.#tell({ kind: "connect_ack", reply: session.reply });
      session.ready();
    } catch (error) {
      this.#refuse(toMigError(error));
    }
    this.#heldBytes = 0;
    for (const answer of this.#heldAnswers.splice(0)) await this.#answers.push(answer, 0);
  }

  async #receive(
    message: AgentMessage & { kind: "event" | "heartbeat" },
    about: VmEvent | Heartbeat,
    bytes: number,
  ): Promise<void> {
    const vmId = about.vmId === "" ? (this.#vmId ?? "") : about.vmId;
    if (this.#vmId !== undefined && vmId !== this.#vmId) return this.#refuseOther(vmId);
    if (this.#vmId === undefined) {
      this.#leaveBefore(await this.#admission.admit(vmId, about));
      this.#vmId = vmId;
    }
    if (message.kind === "event") {
      const event = await this.#admission.own({ ...message.event, vmId });
      this.#parts.files?.keep(vmId, { file: "grpc-event", type: event.type }, eventToJson(event));
      return this.#events.push(event, bytes);
    }
    const beat = await this.#admission.own({ ...message.heartbeat, vmId });
    this.#parts.files?.keep(vmId, { file: "grpc-heartbeat" }, heartbeatToJson(beat));
    const reply = await this.#parts.desk.beat(vmId, beat);
    if (!this.#isBeforeMig) this.#tell({ kind: "heartbeat_ack", reply });
  }

  async #takeAnswer(answer: CommandAnswer, bytes: number): Promise<void> {
    if (this.#slot.isOpen) return this.#answers.push(answer, bytes);
    if (this.#heldAnswers.length < heldAnswersMax && this.#heldBytes + bytes <= heldBytesMax) {
      this.#heldAnswers.push(answer);
      this.#heldBytes += bytes;
    } else this.#notify(new MigError("refused", "connect first; too many answers wait for it"));
  }

  /** A token ends while the stream goes on: the agent has a newer one by then and comes back with it. */
  #leaveBefore(untilMs: number | undefined): void {
    if (untilMs === undefined || this.#leavesInTime) return;
    this.#leavesInTime = true;
    void leaveAt(untilMs, this.#end.signal, (goAway) => this.#leave(goAway));
  }

  #refuseOther(vmId: string): void {
    const named = JSON.stringify(vmId.slice(0, 64));
    this.#notify(
      new MigError(
        "vm_mismatch",
        `this is the stream of ${this.#vmId}; a message about ${named} was ignored`,
      ),
    );
  }

  /** What a message brought about. One that cannot be read ends the stream; the rest is told and life goes on. */
  #fail(thrown: unknown): void {
    if (thrown instanceof WireError) {
      this.#finish({ code: status.INVALID_ARGUMENT, details: thrown.message });
      return;
    }
    const error = toMigError(thrown);
    if (!this.#slot.isOpen && (error.code === "unauthenticated" || error.code === "forbidden")) {
      this.#refuse(error);
      return;
    }
    if (error.code === "incarnation_lost" && !this.#isBeforeMig) {
      this.#leave({ reason: "incarnation_lost", reconnectAfterMs: 60_000, deadlineMs: 0 });
    } else this.#notify(error);
  }

  /** No session for this one. */
  #refuse(error: MigError): void {
    this.#isRefused = true;
    this.#parts.log.info(
      { vm_id: this.#vmId, code: error.code, reason: error.message },
      "a stream was refused",
    );
    if (error.code === "internal")
      this.#parts.log.error({ vm_id: this.#vmId, error }, "a stream could not be opened");
    const message = toStatus(error).details;
    this.#tell({ kind: "connect_ack", reply: refusal(message) });
    if (this.#isBeforeMig && !this.#admission.hasCredentials) this.#hold();
    else this.#finish(toStatus(error));
  }

  #leave(goAway: GoAway): void {
    if (this.#isLeaving) return;
    this.#isLeaving = true;
    if (this.#isBeforeMig) {
      this.#hold();
    } else if (!this.#out.send({ kind: "go_away", goAway }) || goAway.reason === "slow_consumer") {
      this.#finish({
        code: status.RESOURCE_EXHAUSTED,
        details: "slow_consumer: it does not read what it is sent",
      });
    } else void pause(goAway.deadlineMs, this.#end.signal).then(() => this.#finish());
  }

  #hold(): void {
    this.#isLeaving = true;
    void pause(this.#parts.holdMs, this.#end.signal).then(() => this.#finish());
  }

  #notify(thrown: unknown): void {
    const error = toMigError(thrown);
    if (error.code === "internal")
      this.#parts.log.error({ vm_id: this.#vmId, error }, "a message was not dealt with");
    const message = toStatus(error).details;
    this.#tell({ kind: "error", error: { code: error.code, message, details: {}, atMs: Date.now() } });
  }

  #tell(message: Parameters<Outgoing["send"]>[0]): void {
    if (this.#end.signal.aborted || this.#out.send(message)) return;
    this.#leave({ reason: "slow_consumer", reconnectAfterMs: 1_000, deadlineMs: 0 });
  }

  #finish(ending?: { code: status; details: string }): void {
    if (this.#end.signal.aborted) return;
    this.#end.abort();
    this.#slot.close();
    this.#events.close();
    this.#answers.close();
    this.#call.resume(); // what still arrives is thrown away, so that the end of the stream is seen
    if (ending === undefined) this.#call.end();
    else this.#call.emit("error", ending);
  }
}
