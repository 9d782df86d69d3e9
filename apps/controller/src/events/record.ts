import { uuid7 } from "@mig/kit";
import { isId, isKind, type VmEvent } from "@mig/protocol";
import type { FlowContext } from "../context.ts";
import type { IncarnationRow } from "../store/rows.ts";

/** Adds the event to what will be committed, and moves the mark of its incarnation. */
export function recordEvent(
  { unit, vm, nowMs }: FlowContext,
  event: VmEvent,
  cursor: IncarnationRow,
  refused: string | null,
): void {
  unit.events.push({
    vmId: vm.vmId,
    poolId: vm.poolId,
    orgId: vm.orgId,
    incarnation: cursor.incarnation,
    seq: event.seq ?? null,
    eventId: event.eventId !== undefined && isId(event.eventId) ? event.eventId : uuid7(nowMs),
    type: isKind(event.type) ? event.type : "unknown",
    occurredAtMs: event.occurredAtMs,
    receivedAtMs: nowMs,
    payload: refused === null ? event.data : { refused: true, type: event.type.slice(0, 256) },
    refused,
  });
  if (event.seq !== undefined) cursor.ackedSeq = event.seq;
}
