import type { CommandType, JsonObject } from "@mig/protocol";
import { recordAct } from "../audit/audit.ts";
import { newVm } from "../boot/begin-life.ts";
import { queueCommand } from "../commands/queue.ts";
import { contextOf } from "../context.ts";
import { once } from "../operator/idempotency.ts";
import { withUnit } from "../store/unit.ts";
import type { CommandView, Order } from "./desk.ts";
import type { Parts } from "./parts.ts";
import { toCommandView } from "./views.ts";

/** Queues a command, and with an operator's order also who gave it. */
export function orderCommand(
  parts: Parts,
  vmId: string,
  order: Order & { type: CommandType },
): Promise<CommandView> {
  return withUnit(parts.store, { vmIds: [vmId] }, async (unit, tx) => {
    const queue = async (): Promise<CommandView> => {
      // A VM that has not been heard of yet may be told something: the command waits for it (seed 000 R6.3).
      const vm =
        unit.vm(vmId) ?? unit.addVm(newVm({ vmId, poolId: undefined, orgId: undefined }, unit.nowMs));
      const command = queueCommand(contextOf(unit, vm, parts.rules, parts.log), order);
      if (order.origin !== undefined)
        await recordAct(tx, {
          ...order.origin,
          orgId: vm.orgId,
          action: "vm.command",
          object: `vm:${vmId}`,
          result: "done",
          details: { command_id: command.id, type: command.type },
        });
      return toCommandView(command);
    };
    if (order.once === undefined) return queue();
    const answer = await once(tx, order.once, async () => ({ ...(await queue()) }) satisfies JsonObject);
    return answer as unknown as CommandView;
  });
}
