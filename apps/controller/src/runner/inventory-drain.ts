import type { Log } from "@mig/kit";
import { limits } from "@mig/protocol";
import { queueCommand } from "../commands/queue.ts";
import { contextOf, type Rules } from "../context.ts";
import type { Store } from "../store/open-store.ts";
import { withUnit } from "../store/unit.ts";

export interface DrainOrder {
  store: Store;
  rules: Rules;
  log: Log;
}

/**
 * Tells a VM to drain whose runner GitHub does not know: no job will come to it, and one that runs may end. False when
 * the VM has changed since, or has another order to obey first.
 */
export function createDrainOrder({ store, rules, log }: DrainOrder) {
  return async (vmId: string, reason: string): Promise<boolean> =>
    withUnit(store, { vmIds: [vmId] }, (unit) => {
      const vm = unit.vm(vmId);
      if (vm === undefined || (vm.state !== "idle" && vm.state !== "running")) return false;
      const open = unit.openCommands(vmId);
      if (open.some(({ type }) => type === "drain" || type === "shutdown" || type === "register_runner"))
        return false;
      // Whoever has so many commands waiting has another problem, and the next look comes.
      if (open.length >= limits.commandsPendingPerVmMax) return false;
      vm.problem = {
        code: "runner_registration_deleted",
        category: "permanent",
        message: "GitHub does not know this VM's runner, so no job can come to it",
        at_ms: unit.nowMs,
      };
      queueCommand(contextOf(unit, vm, rules, log), {
        type: "drain",
        parameters: { reason },
        by: "controller",
      });
      return true;
    });
}
