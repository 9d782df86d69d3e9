import { isFinished, MigError } from "@mig/lifecycle";
import { recordAct } from "../audit/audit.ts";
import type { Act } from "../audit/chain.ts";
import { move } from "../commands/move.ts";
import type { Store } from "../store/open-store.ts";
import type { CommandRow } from "../store/rows.ts";
import { withUnit } from "../store/unit.ts";

/** Who asked, as the audit log has it. */
export type Origin = Pick<Act, "actor" | "requestId" | "address">;

/** Takes a command back that nobody has yet. */
export function cancelCommand(
  store: Store,
  { id, vmId }: Pick<CommandRow, "id" | "vmId">,
  origin: Origin,
): Promise<CommandRow> {
  return withUnit(store, { vmIds: [vmId], commandIds: [id] }, async (unit, tx) => {
    const command = unit.command(id);
    if (command === undefined) throw new MigError("not_found", "there is no such command");
    const { state } = command;
    if (isFinished(state)) throw new MigError("conflict", `the command has ended: it is ${state}`);
    if (!move(command, "cancel", unit.nowMs, `cancelled by ${origin.actor}`))
      throw new MigError("conflict", `the command is ${state}: the VM has it, and it cannot be taken back`);
    await recordAct(tx, {
      ...origin,
      orgId: unit.vm(vmId)?.orgId ?? "-",
      action: "command.cancel",
      object: `vm:${vmId}`,
      result: "done",
      details: { command_id: id, type: command.type },
    });
    return command;
  });
}
