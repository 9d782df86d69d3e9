import { MigError } from "@mig/lifecycle";
import { sql } from "kysely";
import type { Store, Tx } from "../store/open-store.ts";
import { textsIn } from "../store/table.ts";
import type { FleetOrder, FleetState, Progress } from "./words.ts";

const columns = sql.raw<FleetOrder>(`o.id, o.type, o.parameters, o.selector, o.org_ids as "orgIds",
  o.max_parallel as "maxParallel", o.pause_after_failures as "pauseAfterFailures",
  o.expires_in_ms::float8 as "expiresInMs", o.state, o.message, o.failures_seen as "failuresSeen",
  o.created_by as "createdBy", round(extract(epoch from o.created_at) * 1000)::float8 as "createdAtMs",
  round(extract(epoch from o.finished_at) * 1000)::float8 as "finishedAtMs"`);

const counts = sql.raw(`count(*)::float8 as total,
  ${["pending", "sent", "succeeded", "failed", "skipped"]
    .map((state) => `count(*) filter (where t.state = '${state}')::float8 as ${state}`)
    .join(", ")}`);

/** `wait`: until whoever holds the order has done; `skip`: undefined when somebody holds it. */
export async function lockOrder(
  tx: Tx,
  id: string,
  otherwise: "wait" | "skip",
): Promise<FleetOrder | undefined> {
  const { rows } = await sql<FleetOrder>`select ${columns} from fleet_orders o where o.id = ${id}
    for update ${sql.raw(otherwise === "skip" ? "skip locked" : "")}`.execute(tx);
  return rows[0];
}

export async function countTargets(tx: Tx, id: string): Promise<Progress> {
  const { rows } =
    await sql<Progress>`select ${counts} from fleet_targets t where t.order_id = ${id}`.execute(tx);
  return rows[0] ?? { total: 0, pending: 0, sent: 0, succeeded: 0, failed: 0, skipped: 0 };
}

export async function setState(
  tx: Tx,
  id: string,
  state: FleetState,
  message: string | null = null,
): Promise<void> {
  const isOver = state === "done" || state === "cancelled";
  await sql`update fleet_orders set state = ${state}, message = ${message},
    finished_at = ${isOver ? sql`clock_timestamp()` : sql`null`} where id = ${id}`.execute(tx);
}

export interface FleetView extends FleetOrder {
  readonly progress: Progress;
}

export async function readView(tx: Tx, id: string): Promise<FleetView | undefined> {
  const { rows } = await sql<FleetOrder>`select ${columns} from fleet_orders o where o.id = ${id}`.execute(
    tx,
  );
  const [order] = rows;
  return order === undefined ? undefined : { ...order, progress: await countTargets(tx, id) };
}

/** Those that there are, in no order. */
export async function readViews(tx: Tx, ids: readonly string[]): Promise<FleetView[]> {
  const { rows } = await sql<FleetView>`select ${columns}, p.progress
    from fleet_orders o cross join lateral (select to_jsonb(c) as progress from (
      select ${counts} from fleet_targets t where t.order_id = o.id) c) p
    where o.id in ${textsIn(ids)}`.execute(tx);
  return rows;
}

export interface Problem {
  readonly vmId: string;
  readonly state: string;
  readonly commandId: string | null;
  readonly message: string | null;
}

const problemsShown = 100;

/** One order, and of its targets the first that did not go well. */
export async function findOrder(store: Store, id: string): Promise<FleetView & { problems: Problem[] }> {
  return store.transact(async (tx) => {
    const view = await readView(tx, id);
    if (view === undefined)
      throw new MigError(
        "not_found",
        "there is no such fleet order; GET /api/v1/fleet/commands lists those that there are",
      );
    const { rows } = await sql<Problem>`select vm_id as "vmId", state, command_id as "commandId", message
      from fleet_targets where order_id = ${id} and state in ('failed', 'skipped')
      order by state, position limit ${problemsShown}`.execute(tx);
    return { ...view, problems: rows };
  });
}

export interface FleetFilter {
  /** Only orders whose targets are all of these organizations; undefined: all. */
  readonly orgIds?: readonly string[];
  readonly state?: string;
  readonly limit: number;
  /** The last order of the page before. */
  readonly before?: string;
}

/** Newest first. */
export async function listOrders(store: Store, filter: FleetFilter): Promise<FleetView[]> {
  const { orgIds, state, limit, before } = filter;
  return store.transact(async (tx) => {
    const { rows } = await sql<FleetOrder & { progress: Progress }>`select ${columns}, p.progress
      from fleet_orders o cross join lateral (select to_jsonb(c) as progress from (
        select ${counts} from fleet_targets t where t.order_id = o.id) c) p
      where (${orgIds === undefined} or not exists (select 1 from jsonb_array_elements_text(o.org_ids) as org
          where org not in ${textsIn(orgIds ?? [])}))
        and (${state ?? null}::text is null or o.state = ${state ?? null})
        and (${before ?? null}::text is null or o.id < ${before ?? null})
      order by o.id desc limit ${limit}`.execute(tx);
    return rows;
  });
}
