import { nextVmState } from "@mig/lifecycle";
import { type CommandAnswer, readCrashed, readRegistered, readText, type VmEvent } from "@mig/protocol";
import { move } from "../commands/move.ts";
import type { FlowContext } from "../context.ts";
import { endJob } from "../events/job-ledger.ts";
import type { CommandRow } from "../store/rows.ts";

/** `runner_registered`: the Listener listens. */
export function confirmRunner(context: FlowContext, event: VmEvent): void {
  const { vm, log } = context;
  const runner = readRegistered(event.data);
  vm.state = nextVmState(vm.state, "runner_registered");
  vm.runnerState = "idle";
  // What failed before it does not count against the next one, where a VM may register again after its job.
  vm.registrations = 0;
  vm.runnerName = runner.runnerName ?? vm.runnerName;
  // The heartbeat that says so may come later, or not at all (agents from before MIG): it waits for no runner now.
  if (vm.migletState === "ready" || vm.migletState === "registering_runner") vm.migletState = "idle";
  settleRegistration(context);
  context.unit.settleGrant({ vmId: vm.vmId, incarnation: vm.incarnation, to: "used" });
  log.info({ runner_name: vm.runnerName }, "a runner is registered");
}

/**
 * An agent from before MIG acknowledges register_runner before it acts and never says how it went
 * (reference/go-agent-wire.md §14.7): its runner_registered, or an idle heartbeat, is the result.
 */
export function settleRegistration({ unit, vm, nowMs }: FlowContext): void {
  if (vm.protocolVersion > 0) return;
  for (const command of unit.openCommands(vm.vmId)) {
    if (command.type === "register_runner" && command.state !== "pending") {
      move(command, "succeed", nowMs, "the agent reports a runner");
    }
  }
}

/** The agent's answer to register_runner. */
export function noteRegistration(
  { vm, nowMs }: FlowContext,
  command: CommandRow,
  answer: CommandAnswer,
): void {
  // The heartbeat that says so comes another way and may come later: a `ready` from before must not ask for a second
  // runner. An agent from before MIG keeps its command open until the runner is there, and needs none of this.
  if (vm.protocolVersion > 0 && vm.migletState === "ready") vm.migletState = "registering_runner";
  if (command.state === "succeeded") {
    vm.runnerName = readText(answer.result ?? {}, "runner_name") ?? vm.runnerName;
    vm.problem = null;
  }
  if (command.state === "failed") {
    vm.problem = {
      code: "runner_configure_failed",
      category: "transient",
      message: answer.message ?? "register_runner failed",
      at_ms: nowMs,
    };
  }
}

/** `runner_crashed`: the runner ended without having been told to. Its job, if one was open, has no result. */
export function crashRunner(context: FlowContext, event: VmEvent): void {
  const { vm, nowMs, log } = context;
  const crash = readCrashed(event.data);
  vm.state = nextVmState(vm.state, "runner_crashed");
  vm.runnerState = "offline";
  vm.problem = { code: "runner_crashed", category: "infrastructure", message: crash.reason, at_ms: nowMs };
  endJob(context, "unknown");
  log.warn({ reason: crash.reason, exit_code: crash.exitCode }, "a runner crashed");
}
