import type { Clock } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import type { EventAck, VmEvent } from "@mig/protocol";

interface Batch {
  incarnation: string;
  lastSeq: number;
  ack: EventAck | undefined;
  settle(outcome: EventAck | MigError): void;
}

/** The one batch of events that is under way on a stream, until the controller has acknowledged it. */
export class EventBatch {
  readonly #clock: Clock;
  readonly #answerMs: number;
  #batch: Batch | undefined;

  constructor(clock: Clock, answerMs: number) {
    this.#clock = clock;
    this.#answerMs = answerMs;
  }

  /**
   * Sends the events one by one. `isAcknowledged` false: a controller from before MIG, which acknowledges no event, so
   * that written is all there is to know.
   */
  async carry(
    events: readonly VmEvent[],
    isAcknowledged: boolean,
    send: (event: VmEvent) => Promise<void>,
  ): Promise<EventAck> {
    if (this.#batch !== undefined) throw unreachable("another batch is still unanswered");
    const incarnation = events[0]?.incarnation ?? "";
    const lastSeq = events.at(-1)?.seq ?? 0;
    let settle: Batch["settle"] = () => {};
    const answered = new Promise<EventAck>((resolve, reject) => {
      settle = (outcome) => {
        if (this.#batch?.settle === settle) this.#batch = undefined;
        if (outcome instanceof MigError) reject(outcome);
        else resolve(outcome);
      };
    });
    const batch: Batch = { incarnation, lastSeq, ack: undefined, settle };
    this.#batch = batch;
    // From before the first byte: a peer that does not read may never let the last one go.
    const cancel = this.#clock.after(this.#answerMs, () =>
      settle(batch.ack ?? unreachable("the events were not acknowledged in time")),
    );
    const sendAll = async (): Promise<void> => {
      for (const event of events) {
        if (this.#batch !== batch) return;
        await send(event);
      }
      if (!isAcknowledged) settle({ incarnation, upToSeq: lastSeq, rejected: [] });
    };
    sendAll().catch((error: unknown) =>
      settle(
        error instanceof MigError ? error : unreachable(`the events could not be sent: ${String(error)}`),
      ),
    );
    return answered.finally(cancel);
  }

  acknowledge(ack: EventAck): void {
    const batch = this.#batch;
    if (batch === undefined) return;
    if (ack.incarnation !== "" && batch.incarnation !== "" && ack.incarnation !== batch.incarnation) return;
    batch.ack = {
      ...ack,
      upToSeq: Math.max(ack.upToSeq, batch.ack?.upToSeq ?? 0),
      rejected: [...(batch.ack?.rejected ?? []), ...ack.rejected],
    };
    if (batch.ack.upToSeq >= batch.lastSeq || ack.rejected.some((one) => !one.permanent))
      batch.settle(batch.ack);
  }

  fail(reason: MigError): void {
    this.#batch?.settle(reason);
  }
}

const unreachable = (message: string): MigError => new MigError("controller_unreachable", message);
