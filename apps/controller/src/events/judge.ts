import { type EventRejection, firstSeqOf, isId, isKind, limits, type VmEvent } from "@mig/protocol";

/**
 * Whether an event is stored, given how far the events of its incarnation are stored already. This is the whole of
 * "exactly once, in order" (reliability-security E1–E3):
 *
 * - seq at or below the mark: stored before; acknowledge again
 * - the next seq: store
 * - a gap: refuse for now; the agent sends again from the mark. `events_dropped` spans a gap and closes it
 * - one that cannot be understood: stored as refused under its seq, so that the ones behind it are not held up
 */
export type Judgement =
  | { verdict: "store" }
  | { verdict: "stored_before" }
  | { verdict: "gap"; rejection: EventRejection }
  | { verdict: "refuse"; rejection: EventRejection };

export function judgeEvent(event: VmEvent, ackedSeq: number): Judgement {
  const { seq } = event;
  if (seq === undefined) {
    const problem = problemOf(event);
    return problem === undefined ? { verdict: "store" } : refuse(0, problem);
  }
  if (seq <= ackedSeq) return { verdict: "stored_before" };
  if ((firstSeqOf(event) ?? seq) > ackedSeq + 1) {
    const message = `expected seq ${ackedSeq + 1}, got ${seq}; send again from there`;
    return { verdict: "gap", rejection: { seq, code: "out_of_order", message, permanent: false } };
  }
  const problem = problemOf(event);
  return problem === undefined ? { verdict: "store" } : refuse(seq, problem);
}

function refuse(seq: number, message: string): Judgement {
  return { verdict: "refuse", rejection: { seq, code: "refused", message, permanent: true } };
}

function problemOf(event: VmEvent): string | undefined {
  if (!isKind(event.type)) return "type is a lower-case word of at most 64 characters";
  if (event.eventId !== undefined && !isId(event.eventId)) return "event_id is not an id";
  if (Buffer.byteLength(JSON.stringify(event.data)) > limits.eventDataBytesMax) {
    return `the data of an event has at most ${limits.eventDataBytesMax} bytes`;
  }
  return undefined;
}
