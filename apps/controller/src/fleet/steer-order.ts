import { MigError } from "@mig/lifecycle";
import { sql } from "kysely";
import { recordAct } from "../audit/audit.ts";
import { move } from "../commands/move.ts";
import type { Origin } from "../operator/cancel-command.ts";
import type { Tx } from "../store/open-store.ts";
import { textsIn } from "../store/table.ts";
import { withUnit } from "../store/unit.ts";
import type { FleetParts } from "./parts.ts";
import { type FleetView, lockOrder, readView, setState } from "./rows.ts";
import type { FleetOrder, FleetState } from "./words.ts";

export const steps = ["pause", "resume", "cancel"] as const;
export type Step = (typeof steps)[number];

/** What each step leads to; a step that changes nothing is as good as done, so that it may be sent twice. */
const leadsTo = { pause: "paused", resume: "running", cancel: "cancelled" } as const satisfies Record<
  Step,
  FleetState
>;

/** An operator holds an order, lets it go on, or ends it. */
export async function steerOrder(
  { store }: FleetParts,
  id: string,
  step: Step,
  origin: Origin,
): Promise<FleetView> {
  // Only a cancel takes back what VMs have not got yet; their rows are locked before the order's (sweep-orders.ts).
  const vmIds = step === "cancel" ? await store.transact((tx) => vmsUnderWay(tx, id)) : [];
  return withUnit(store, { vmIds }, async (unit, tx) => {
    const order = await lockOrder(tx, id, "wait");
    if (order === undefined) throw new MigError("not_found", "there is no such fleet order");
    if (judgeStep(order, step)) {
      if (step === "resume")
        await sql`update fleet_orders set failures_seen = (select count(*) from fleet_targets
          where order_id = ${id} and state = 'failed') where id = ${id}`.execute(tx);
      if (step === "cancel") {
        await sql`update fleet_targets set state = 'skipped', message = 'the order was cancelled'
          where order_id = ${id} and state = 'pending'`.execute(tx);
        // What the VM has runs to its end; the sweep counts how.
        for (const commandId of await commandsUnderWay(tx, id)) {
          const command = unit.command(commandId);
          if (command !== undefined) move(command, "cancel", unit.nowMs, "its fleet order was cancelled");
        }
      }
      await setState(tx, id, leadsTo[step], step === "resume" ? null : `${step} by ${origin.actor}`);
      for (const orgId of [...order.orgIds].sort())
        await recordAct(tx, {
          ...origin,
          orgId,
          action: "fleet.command",
          object: `fleet:${id}`,
          result: "done",
          details: { step },
        });
    }
    const view = await readView(tx, id);
    if (view === undefined) throw new MigError("not_found", "there is no such fleet order");
    return view;
  });
}

/** Whether there is something to do. */
function judgeStep({ state }: FleetOrder, step: Step): boolean {
  if (state === leadsTo[step]) return false;
  if (state === "done" || state === "cancelled")
    throw new MigError("conflict", `the fleet order has ended: it is ${state}; give a new one`);
  return true;
}

async function vmsUnderWay(tx: Tx, id: string): Promise<string[]> {
  const { rows } = await sql<{ vmId: string }>`select t.vm_id as "vmId" from fleet_targets t
    where t.order_id = ${id} and t.state = 'sent'`.execute(tx);
  return rows.map(({ vmId }) => vmId);
}

async function commandsUnderWay(tx: Tx, id: string): Promise<string[]> {
  const { rows } = await sql<{ id: string }>`select id from commands where state = 'pending' and id in
    (select command_id from fleet_targets where order_id = ${id} and state = 'sent' and command_id is not null)
    and vm_id in ${textsIn(await vmsUnderWay(tx, id))}`.execute(tx);
  return rows.map((row) => row.id);
}
