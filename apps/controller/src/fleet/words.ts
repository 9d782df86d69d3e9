import type { CommandState } from "@mig/lifecycle";
import type { CommandType, JsonObject } from "@mig/protocol";

/** Which VMs an order is for: those that fit all that is said. */
export interface Selector {
  readonly poolId?: string;
  readonly orgId?: string;
  readonly states?: readonly string[];
  readonly agentVersion?: string;
  /** Of the pool: VMs have the labels of their pool. */
  readonly label?: string;
  readonly vmIds?: readonly string[];
}

export interface NewFleetOrder {
  readonly selector: Selector;
  readonly type: CommandType;
  readonly parameters: JsonObject;
  readonly maxParallel: number;
  /** 0: never. */
  readonly pauseAfterFailures: number;
  /** From when it is sent to a VM, for each VM. */
  readonly expiresInMs?: number;
  readonly by: string;
}

/** `paused` and `cancelled` send to no more targets; what was sent before still comes to its end and is counted. */
export type FleetState = "running" | "paused" | "done" | "cancelled";
export type TargetState = "pending" | "sent" | "succeeded" | "failed" | "skipped";

export interface Progress {
  readonly total: number;
  readonly pending: number;
  readonly sent: number;
  readonly succeeded: number;
  readonly failed: number;
  readonly skipped: number;
}

export interface FleetOrder {
  readonly id: string;
  readonly type: CommandType;
  readonly parameters: JsonObject;
  readonly selector: JsonObject;
  readonly orgIds: readonly string[];
  readonly maxParallel: number;
  readonly pauseAfterFailures: number;
  readonly expiresInMs: number | null;
  readonly state: FleetState;
  readonly message: string | null;
  readonly failuresSeen: number;
  readonly createdBy: string;
  readonly createdAtMs: number;
  readonly finishedAtMs: number | null;
}

/** What the end of its command means for a target; undefined: it has not ended. */
export const outcomeOf = {
  pending: undefined,
  sent: undefined,
  acknowledged: undefined,
  succeeded: "succeeded",
  failed: "failed",
  rejected: "failed",
  expired: "failed",
  // Somebody took this one command back, or a newer one of its kind took its place: no fault of the VM.
  cancelled: "skipped",
  superseded: "skipped",
} as const satisfies Record<CommandState, TargetState | undefined>;

/** Where an order stands after some of its targets have ended. */
export function judgeOrder(
  order: Pick<FleetOrder, "state" | "pauseAfterFailures" | "failuresSeen">,
  progress: Progress,
): FleetState {
  const { pending, sent, failed } = progress;
  if (order.state === "done" || order.state === "cancelled") return order.state;
  if (pending + sent === 0) return "done";
  const isTooMany = order.pauseAfterFailures > 0 && failed - order.failuresSeen >= order.pauseAfterFailures;
  // With nothing left to hold back a pause would only hide that the order comes to its end.
  return isTooMany && pending > 0 ? "paused" : order.state;
}
