import { nextVmState, reportOf } from "@mig/lifecycle";
import { type Heartbeat, healthToJson, jobToJson } from "@mig/protocol";
import type { FlowContext } from "../context.ts";

/** What a heartbeat tells: the VM is there, how it is, and what its agent believes. */
export function applyBeat({ vm, nowMs }: FlowContext, beat: Heartbeat): void {
  vm.lastHeartbeatMs = nowMs;
  hear({ vm, nowMs });
  if (beat.health !== undefined) vm.health = healthToJson(beat.health);
  if (beat.runner !== undefined) {
    vm.runnerState = beat.runner.state;
    vm.runnerName = beat.runner.name ?? vm.runnerName;
  }
  applyReport({ vm }, beat.migletState, beat.runner?.state === "running");
  if (beat.currentJob !== undefined && vm.state === "running") {
    // The start is the first one told: existing agents move it with each beat (reference/go-agent-wire.md A23).
    const before = vm.currentJob?.["started_at"];
    vm.currentJob = {
      ...jobToJson(beat.currentJob),
      ...(before === undefined ? {} : { started_at: before }),
    };
  }
}

/** Any message is a sign of life. */
export function hear({ vm, nowMs }: Pick<FlowContext, "vm" | "nowMs">): void {
  vm.lastSeenMs = nowMs;
  if (vm.reachability === "unreachable") vm.reachability = "online";
}

/** The agent's own state, from a heartbeat, a connect or a poll. */
export function applyReport(
  { vm }: Pick<FlowContext, "vm">,
  migletState: string | undefined,
  runnerRuns: boolean,
): void {
  if (migletState !== undefined) vm.migletState = migletState;
  const report = reportOf(migletState, runnerRuns);
  if (report !== undefined) vm.state = nextVmState(vm.state, report);
}
