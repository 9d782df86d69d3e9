import { pause } from "@mig/kit";
import { isRetryable, MigError } from "@mig/lifecycle";
import { type ControllerMessage, natsLinkHeader, natsPeerOf, type VmEvent } from "@mig/protocol";
import type { ConsumerMessages, JsMsg } from "@nats-io/jetstream";
import { toMigError } from "../error.ts";
import { readFrame } from "../ws/incoming.ts";
import type { NatsParts } from "./nats-parts.ts";
import { Outgoing } from "./outgoing.ts";

/** What one replica takes at a time. */
const pulledMax = 500;
const againMs = 1_000;

/**
 * Takes events and answers out of MIG_UP, which all replicas share. A message is removed from the stream when the table
 * has it, and not before: one that a replica took into its grave comes to another. Messages of one VM are dealt with in
 * their order; what two replicas turn round, the events' numbering finds, and the agent sends again from the gap.
 */
export class Incoming {
  readonly #parts: NatsParts;
  readonly #signal: AbortSignal;
  readonly #chains = new Map<string, Promise<void>>();
  #messages: ConsumerMessages | undefined;

  constructor(parts: NatsParts, signal: AbortSignal) {
    this.#parts = parts;
    this.#signal = signal;
  }

  /** Until the consumer is gone, or `signal` aborts. */
  async run(): Promise<void> {
    const { stream, names } = this.#parts;
    const consumer = await stream.consumers.get(names.upStream, names.upConsumer);
    const messages = await consumer.consume({ max_messages: pulledMax, abort_on_missing_resource: true });
    this.#messages = messages;
    const stop = (): void => messages.stop();
    if (this.#signal.aborted) stop();
    this.#signal.addEventListener("abort", stop, { once: true });
    try {
      for await (const message of messages) this.#queue(message);
    } finally {
      this.#signal.removeEventListener("abort", stop);
    }
  }

  /** What was taken is finished. */
  async idle(): Promise<void> {
    this.#messages?.stop();
    await Promise.all(this.#chains.values());
  }

  #queue(message: JsMsg): void {
    const { subject } = message;
    const before = this.#chains.get(subject) ?? Promise.resolve();
    const mine = before
      .then(() => this.#take(message))
      .catch((error: unknown) =>
        this.#parts.log.warn({ subject, error }, "a message of NATS was not dealt with"),
      )
      .finally(() => {
        if (this.#chains.get(subject) === mine) this.#chains.delete(subject);
      });
    this.#chains.set(subject, mine);
  }

  async #take(message: JsMsg): Promise<void> {
    const { desk, names, log, retryMs } = this.#parts;
    const peer = natsPeerOf(message.subject)?.peer;
    if (peer === undefined) return message.term("not a subject of a VM");
    const { vmId } = peer;
    const link = message.headers?.get(natsLinkHeader) ?? "";
    // One that the agent wrote oddly gets no answer rather than one somewhere else.
    const out = linkPattern.test(link)
      ? new Outgoing(this.#parts, vmId, names.down(peer, link), log)
      : undefined;
    try {
      const standing = await this.#parts.standingOf(peer);
      const events: VmEvent[] = [];
      for (const said of readFrame(Buffer.from(message.data), vmId)) {
        if (said.kind === "event") events.push(standing.own(said.event));
        else if (said.kind === "ack") {
          await this.#record(vmId, events, out);
          await desk.answer(vmId, said.answer, false);
        } else throw new MigError("invalid_request", `${said.kind} goes another way than this subject`);
      }
      await this.#record(vmId, events, out);
      message.ack();
    } catch (thrown) {
      const error = toMigError(thrown);
      if (this.#signal.aborted || (isRetryable(error.category) && error.code !== "internal"))
        return message.nak(error.retryAfterMs ?? retryMs);
      // It would fail again and again; the agent is told and has its own copy.
      message.term(error.code);
      log.info({ vm_id: vmId, code: error.code, reason: error.message }, "a message of NATS was refused");
      out?.tell(notice(error));
    }
  }

  async #record(vmId: string, events: VmEvent[], out: Outgoing | undefined): Promise<void> {
    if (events.length === 0) return;
    const ack = await this.#parts.desk.recordEvents(vmId, events.splice(0));
    out?.tell({ kind: "event_ack", ack });
  }
}

const linkPattern = /^[a-z0-9-]{8,64}$/;

function notice({ code, message }: MigError): ControllerMessage {
  const text = code === "internal" ? "the controller failed; its log says why" : message;
  return { kind: "error", error: { code, message: text, details: {}, atMs: Date.now() } };
}

/** For as long as `signal` lasts: what ends by itself begins again. */
export async function keepTaking(
  begin: () => Promise<void>,
  tell: (error: unknown) => void,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    try {
      await begin();
    } catch (error) {
      if (!signal.aborted) tell(error);
    }
    await pause(againMs, signal);
  }
}
