import { limits } from "@mig/protocol";
import { queueCommand } from "../commands/queue.ts";
import type { FlowContext } from "../context.ts";

/**
 * A VM that says `ready` waits for work: register_runner is queued by itself (seed 004). Once for each time it is
 * needed: not while such a command is open, not when the VM is on its way out, not when its queue is full, and at
 * most three times in a row (seed 001); a VM that asks a fourth time would wait for ever, so it is ended. The grant itself is obtained when the command is delivered, so no secret rests
 * in the table.
 */
export function wantRunner(context: FlowContext): void {
  const { unit, vm, nowMs, rules, log } = context;
  // An old agent that reports no state stays `ready` in the table; its runner_registered made the VM idle.
  if (vm.migletState !== "ready" || vm.state !== "initializing") return;
  const open = unit.openCommands(vm.vmId);
  // A throw would take with it the beats of all the VMs in the same unit.
  if (open.length >= limits.commandsPendingPerVmMax) return;
  if (open.some((c) => c.type === "register_runner" || c.type === "drain" || c.type === "shutdown")) return;
  if (vm.registrations >= rules.registrationsMax) {
    vm.problem = {
      code: "runner_configure_failed",
      category: "permanent",
      message: `${vm.registrations} registrations did not lead to a runner; see the VM's commands`,
      at_ms: nowMs,
    };
    log.error({ registrations: vm.registrations }, "a VM gets no further registration and is ended");
    queueCommand(context, { type: "shutdown", parameters: {}, by: "controller" });
    return;
  }
  vm.registrations += 1;
  queueCommand(context, { type: "register_runner", parameters: {}, by: "controller" });
}
