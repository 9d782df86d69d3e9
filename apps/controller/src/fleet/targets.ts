import { sql } from "kysely";
import type { Store } from "../store/open-store.ts";

export interface Target {
  /** Its turn, from 1. */
  readonly position: number;
  readonly vmId: string;
  readonly orgId: string;
  readonly state: string;
  readonly commandId: string | null;
  readonly message: string | null;
}

export interface TargetFilter {
  readonly state?: string;
  readonly limit: number;
  /** The position of the last target of the page before. */
  readonly after?: number;
}

/** Every VM of an order, in the order of their turns. Turns are given once, so pages neither overlap nor leave one out. */
export async function listTargets(store: Store, orderId: string, filter: TargetFilter): Promise<Target[]> {
  const { state, limit, after = 0 } = filter;
  const { rows } = await store.transact((tx) =>
    sql<Target>`select position, vm_id as "vmId", org_id as "orgId", state, command_id as "commandId", message
      from fleet_targets where order_id = ${orderId} and position > ${after}
        and (${state ?? null}::text is null or state = ${state ?? null})
      order by position limit ${limit}`.execute(tx),
  );
  return rows;
}
