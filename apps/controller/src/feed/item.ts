import type { JsonObject } from "@mig/protocol";
import type { FleetView } from "../fleet/rows.ts";
import type { EventRow } from "../store/rows.ts";
import type { Place } from "./place.ts";

/**
 * What somebody who watches is told of.
 *
 * vm       a VM is new, begins another life, has its drain's receipt, or has moved: its state, reachability or runner
 * command  a command is new or has moved
 * event    a VM has told something, and it is stored
 * fleet    an order for many VMs is new, has moved, or has come further
 */
export const feedKinds = ["vm", "command", "event", "fleet"] as const;
export type FeedKind = (typeof feedKinds)[number];

interface Told {
  /** Where whoever has seen this goes on. */
  readonly next: Place;
  /** Unix milliseconds by the database's clock. */
  readonly atMs: number;
}

interface OfVm extends Told {
  readonly vmId: string;
  readonly poolId: string;
  readonly orgId: string;
}

/** `body`: as it was at that moment, with the wire's names (migrations/000012_feed.sql). */
export interface ChangeItem extends OfVm {
  readonly kind: "vm" | "command";
  readonly body: JsonObject;
}

export interface EventItem extends OfVm {
  readonly kind: "event";
  readonly event: EventRow;
}

/** The order as it is when this is read: an order that comes far in a moment is told of once. */
export interface FleetItem extends Told {
  readonly kind: "fleet";
  readonly order: FleetView;
}

export type FeedItem = ChangeItem | EventItem | FleetItem;

export interface Wanted {
  /** Only what is wholly of these organizations; undefined: whatever it is. */
  readonly orgIds?: readonly string[];
  readonly vmId?: string;
  readonly poolId?: string;
  readonly orgId?: string;
  readonly kinds: ReadonlySet<FeedKind>;
}

/** An order is of all organizations of its targets: who has not all of them does not see it, as in the list of orders. */
export function isWanted(wanted: Wanted, item: FeedItem): boolean {
  if (!wanted.kinds.has(item.kind)) return false;
  const orgs = item.kind === "fleet" ? item.order.orgIds : [item.orgId];
  if (wanted.orgIds !== undefined && !orgs.every((org) => wanted.orgIds?.includes(org))) return false;
  if (wanted.orgId !== undefined && !orgs.includes(wanted.orgId)) return false;
  if (wanted.vmId === undefined && wanted.poolId === undefined) return true;
  if (item.kind === "fleet") return false;
  return (
    (wanted.vmId === undefined || item.vmId === wanted.vmId) &&
    (wanted.poolId === undefined || item.poolId === wanted.poolId)
  );
}
