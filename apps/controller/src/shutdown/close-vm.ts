import { nextVmState } from "@mig/lifecycle";
import { type CommandAnswer, readReason, type VmEvent } from "@mig/protocol";
import { move } from "../commands/move.ts";
import type { FlowContext } from "../context.ts";
import { endJob } from "../events/job-ledger.ts";
import type { CommandRow } from "../store/rows.ts";

/** `vm_shutting_down`: the agent says goodbye; events may still follow. */
export function closeVm({ vm, log }: FlowContext, event: VmEvent): void {
  vm.state = nextVmState(vm.state, "vm_shutting_down");
  vm.runnerState = "offline";
  log.info({ reason: readReason(event.data).reason }, "a VM shuts down");
}

/** `vm_terminated`: the agent's last word. */
export function buryVm(context: FlowContext, event: VmEvent): void {
  const { vm, log } = context;
  vm.state = nextVmState(vm.state, "vm_terminated");
  vm.runnerState = "offline";
  endEverything(context, "the VM has ended");
  log.info({ reason: readReason(event.data).reason }, "a VM has ended");
}

/**
 * The VM has been silent for longer than the bound. One that was shutting down has simply ended; any other is lost:
 * the result of its job is unknown until the VM or GitHub says more, and its commands reach nobody.
 */
export function writeOff(context: FlowContext): void {
  const { vm, log } = context;
  vm.state = nextVmState(vm.state, "silence");
  vm.reachability = "lost";
  vm.runnerState = "offline";
  vm.sessionChannel = null;
  endEverything(context, "the VM was lost");
  log.warn({ state: vm.state, last_seen: new Date(vm.lastSeenMs).toISOString() }, "a VM is written off");
}

/**
 * The agent's answers to drain. `received`: it takes no new job from now on. The result is the receipt without
 * which nobody may treat the VM as safe to kill (DESIGN §6.9); it is kept on the VM.
 */
export function noteDrain({ vm, nowMs, log }: FlowContext, command: CommandRow, answer: CommandAnswer): void {
  if (command.state === "acknowledged") vm.state = nextVmState(vm.state, "drain_received");
  if (command.state === "succeeded") {
    vm.state = nextVmState(vm.state, "drain_received");
    vm.drained = { ...answer.result, command_id: command.id, at_ms: nowMs };
    log.info({ command_id: command.id }, "a VM is drained");
  }
}

function endEverything(context: FlowContext, why: string): void {
  const { unit, vm, nowMs } = context;
  endJob(context, "unknown");
  unit.settleGrant({ vmId: vm.vmId, incarnation: vm.incarnation, to: "void" });
  for (const command of unit.openCommands(vm.vmId)) {
    // A shutdown that was acknowledged has done what it was for.
    if (command.type === "shutdown" && command.state === "acknowledged" && vm.state === "terminated") {
      move(command, "succeed", nowMs, why);
    } else
      move(
        command,
        "expire",
        nowMs,
        command.state === "acknowledged" ? `${why}: the outcome is unknown` : why,
      );
  }
}
