import { uuid7 } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import type { JsonObject } from "@mig/protocol";
import { sql } from "kysely";
import { recordAct } from "../audit/audit.ts";
import { checkParameters } from "../commands/queue.ts";
import type { Origin } from "../operator/cancel-command.ts";
import { type OnceKey, once } from "../operator/idempotency.ts";
import type { Tx } from "../store/open-store.ts";
import { textsIn, toJsonParameter } from "../store/table.ts";
import type { FleetParts } from "./parts.ts";
import { type FleetView, readView } from "./rows.ts";
import type { NewFleetOrder, Selector } from "./words.ts";

/**
 * Writes the order and its targets. The targets are those of this moment: a VM that comes later is not meant, and one
 * that ends before its turn is skipped.
 */
export async function createOrder(
  { store, poolOf }: FleetParts,
  order: NewFleetOrder,
  scope: { readonly orgIds: readonly string[] | undefined; readonly origin: Origin; readonly once?: OnceKey },
): Promise<FleetView> {
  refuseEmpty(order.selector);
  checkParameters(order.parameters);
  return store.transact(async (tx) => {
    const work = async (): Promise<JsonObject> => {
      const id = uuid7();
      await insertOrder(tx, id, order);
      const orgs = await insertTargets(tx, id, order.selector, scope.orgIds, poolOf);
      if (orgs.length === 0)
        throw new MigError("refused", "no VM fits the selector; see which there are with GET /api/v1/vms");
      await sql`update fleet_orders set org_ids = ${toJsonParameter(orgs.map(({ orgId }) => orgId))}::jsonb
        where id = ${id}`.execute(tx);
      // In the order of their names, as everybody takes the heads of the chains.
      for (const { orgId, count } of orgs)
        await recordAct(tx, {
          ...scope.origin,
          orgId,
          action: "fleet.command",
          object: `fleet:${id}`,
          result: "done",
          details: { type: order.type, targets: count },
        });
      return { id };
    };
    const { id } = scope.once === undefined ? await work() : await once(tx, scope.once, work);
    const view = await readView(tx, String(id));
    if (view === undefined) throw new MigError("not_found", "the fleet order is no longer there");
    return view;
  });
}

/** `{}` would mean every VM: nobody should get that by forgetting a key. */
function refuseEmpty(selector: Selector): void {
  if (Object.keys(selector).length === 0)
    throw new MigError(
      "refused",
      "an empty selector would mean every VM; name a pool_id, org_id, states, agent_version, label or vm_ids",
    );
}

async function insertOrder(tx: Tx, id: string, order: NewFleetOrder): Promise<void> {
  const { poolId, orgId, states, agentVersion, label, vmIds } = order.selector;
  const selector = {
    pool_id: poolId,
    org_id: orgId,
    states,
    agent_version: agentVersion,
    label,
    vm_ids: vmIds,
  };
  await sql`insert into fleet_orders (id, type, parameters, selector, org_ids, max_parallel,
      pause_after_failures, expires_in_ms, state, failures_seen, created_by, created_at)
    values (${id}, ${order.type}, ${toJsonParameter(order.parameters)}::jsonb, ${toJsonParameter(selector)}::jsonb,
      '[]'::jsonb, ${order.maxParallel}, ${order.pauseAfterFailures}, ${order.expiresInMs ?? null}, 'running', 0,
      ${order.by}, clock_timestamp())`.execute(tx);
}

/** Answers how many VMs of which organizations. VMs that have ended are meant only when they are named. */
async function insertTargets(
  tx: Tx,
  id: string,
  selector: Selector,
  orgIds: readonly string[] | undefined,
  poolOf: FleetParts["poolOf"],
): Promise<{ orgId: string; count: number }[]> {
  const { poolId, orgId, states, agentVersion, label, vmIds } = selector;
  const isNamed = states !== undefined || vmIds !== undefined;
  const pools = label === undefined ? undefined : await poolsWith(tx, label, poolOf);
  const { rows } = await sql<{ orgId: string; count: number }>`with chosen as (
      insert into fleet_targets (order_id, position, vm_id, org_id, state)
      select ${id}, row_number() over (order by vm_id), vm_id, org_id, 'pending' from vms
      where (${orgIds === undefined} or org_id in ${textsIn(orgIds ?? [])})
        and (${isNamed} or state not in ('terminated', 'lost'))
        and (${poolId ?? null}::text is null or pool_id = ${poolId ?? null})
        and (${orgId ?? null}::text is null or org_id = ${orgId ?? null})
        and (${states === undefined} or state in ${textsIn(states ?? [])})
        and (${agentVersion ?? null}::text is null or agent_version = ${agentVersion ?? null})
        and (${pools === undefined} or pool_id in ${textsIn(pools ?? [])})
        and (${vmIds === undefined} or vm_id in ${textsIn(vmIds ?? [])})
      returning org_id)
    select org_id as "orgId", count(*)::float8 as count from chosen group by org_id order by org_id`.execute(
    tx,
  );
  return rows;
}

async function poolsWith(tx: Tx, label: string, poolOf: FleetParts["poolOf"]): Promise<string[]> {
  const { rows } = await sql<{ poolId: string }>`select distinct pool_id as "poolId" from vms`.execute(tx);
  return rows.map(({ poolId }) => poolId).filter((poolId) => poolOf(poolId)?.labels.includes(label) === true);
}
