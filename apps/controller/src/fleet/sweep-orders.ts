import { isTerminal, MigError } from "@mig/lifecycle";
import { sql } from "kysely";
import { queueCommand } from "../commands/queue.ts";
import { contextOf } from "../context.ts";
import type { Tx } from "../store/open-store.ts";
import { toJsonParameter } from "../store/table.ts";
import { type Unit, withUnit } from "../store/unit.ts";
import type { FleetParts } from "./parts.ts";
import { countTargets, lockOrder, setState } from "./rows.ts";
import { type FleetOrder, judgeOrder, outcomeOf, type TargetState } from "./words.ts";

const ordersPerSweep = 50;
/** VMs that are locked at once. */
const sentAtOnce = 200;

/**
 * Moves every order that has something to do. There is no leader: any replica may, and what was begun by one that was
 * killed is gone on with by the next. All that counts is in the tables, and is looked at again under the order's row
 * lock, so two replicas never have more than `max_parallel` under way between them.
 */
export async function sweepOrders(parts: FleetParts): Promise<void> {
  const { rows } = await parts.store.transact((tx) =>
    // In any order, so that none waits for ever behind fifty that take long.
    sql<{ id: string }>`select id from (select id from fleet_orders where state = 'running'
      union select order_id from fleet_targets where state = 'sent') as due
      order by random() limit ${ordersPerSweep}`.execute(tx),
  );
  for (const { id } of rows) await advance(parts, id);
}

/** Settles what has ended, then sends to as many VMs as there is room for. */
export async function advance(parts: FleetParts, id: string): Promise<void> {
  const room = await parts.store.transact((tx) => settle(tx, id));
  if (room > 0) await sendMore(parts, id, Math.min(room, sentAtOnce));
}

/** Answers how many more targets may be sent to. */
async function settle(tx: Tx, id: string): Promise<number> {
  const order = await lockOrder(tx, id, "skip");
  if (order === undefined) return 0;
  await sql`update fleet_targets t set state = coalesce(e.outcome, 'failed'),
      message = case when c.id is null then 'its command is no longer there' else c.message end
    from fleet_targets s left join commands c on c.id = s.command_id
      left join jsonb_each_text(${toJsonParameter(outcomeOf)}::jsonb) as e(state, outcome) on e.state = c.state
    where s.order_id = ${id} and s.state = 'sent' and (c.id is null or e.outcome is not null)
      and t.order_id = s.order_id and t.position = s.position`.execute(tx);
  const progress = await countTargets(tx, id);
  const next = judgeOrder(order, progress);
  if (next !== order.state)
    await setState(
      tx,
      id,
      next,
      next === "paused"
        ? `${progress.failed - order.failuresSeen} VMs failed; look, then resume or cancel`
        : null,
    );
  return next === "running" ? Math.min(progress.pending, order.maxParallel - progress.sent) : 0;
}

/**
 * The VMs' rows are locked first and the order's row after them, without waiting: whoever holds the order never waits
 * for a VM, so nobody waits in a circle. What was read before the lock is judged again under it.
 */
async function sendMore(parts: FleetParts, id: string, room: number): Promise<void> {
  const { rows: next } = await parts.store.transact((tx) => pendingOf(tx, id, room));
  if (next.length === 0) return;
  await withUnit(parts.store, { vmIds: next.map(({ vmId }) => vmId) }, async (unit, tx) => {
    const order = await lockOrder(tx, id, "skip");
    if (order?.state !== "running") return;
    const { sent } = await countTargets(tx, id);
    const { rows: still } = await pendingOf(tx, id, Math.max(0, order.maxParallel - sent));
    const due = still.filter(({ vmId }) => next.some((one) => one.vmId === vmId));
    const moves = due.map(({ position, vmId }) => ({ position, ...send(parts, unit, order, vmId) }));
    await sql`update fleet_targets t set state = m.state, command_id = m.command_id, message = m.message
      from jsonb_to_recordset(${toJsonParameter(moves)}::jsonb)
        as m(position integer, state text, command_id text, message text)
      where t.order_id = ${id} and t.position = m.position`.execute(tx);
  });
}

const pendingOf = (tx: Tx, id: string, limit: number) =>
  sql<{ position: number; vmId: string }>`select position, vm_id as "vmId" from fleet_targets
    where order_id = ${id} and state = 'pending' order by position limit ${limit}`.execute(tx);

interface Sent {
  readonly state: TargetState;
  readonly command_id?: string;
  readonly message?: string;
}

function send({ rules, log, registry }: FleetParts, unit: Unit, order: FleetOrder, vmId: string): Sent {
  const vm = unit.vm(vmId);
  if (vm === undefined) return { state: "skipped", message: "the VM is no longer known" };
  if (isTerminal(vm.state)) return { state: "skipped", message: `the VM is ${vm.state}` };
  try {
    const command = queueCommand(contextOf(unit, vm, rules, log), {
      type: order.type,
      parameters: order.parameters,
      by: order.createdBy,
      ...(order.expiresInMs === null ? {} : { expiresInMs: order.expiresInMs }),
    });
    unit.afterCommit(() => registry.wake(vmId));
    return { state: "sent", command_id: command.id };
  } catch (error) {
    if (error instanceof MigError) return { state: "failed", message: error.message };
    throw error;
  }
}
