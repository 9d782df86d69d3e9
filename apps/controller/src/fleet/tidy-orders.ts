import { sql } from "kysely";
import type { Store } from "../store/open-store.ts";

/** An order may have ten thousand targets: few at a time, so that nobody waits for the deletion. */
const ordersAtOnce = 5;

/**
 * Forgets orders that ended more than `keptMs` ago, and their targets with them; the commands themselves stay. A cancelled
 * order whose last VMs are still at work has not ended. Any replica may; answers how many orders are gone.
 */
export async function tidyOrders(store: Store, keptMs: number): Promise<number> {
  const { numAffectedRows = 0n } = await store.transact((tx) =>
    sql`delete from fleet_orders where id in (
      select id from fleet_orders o where finished_at < clock_timestamp() - ${keptMs} * interval '1 millisecond'
        and not exists (select 1 from fleet_targets t where t.order_id = o.id and t.state = 'sent')
      order by finished_at limit ${ordersAtOnce} for update skip locked)`.execute(tx),
  );
  return Number(numAffectedRows);
}
