import { parseDurationMs } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import type { CommandView, VmView } from "../../session/desk.ts";

/** What operators see, with the wire's names and RFC 3339 times. */
export function renderVm(vm: VmView): object {
  return {
    vm_id: vm.vmId,
    pool_id: vm.poolId,
    org_id: vm.orgId,
    state: vm.state,
    reachability: vm.reachability,
    runner_state: vm.runnerState,
    miglet_state: vm.migletState,
    current_job: vm.currentJob,
    health: vm.health,
    last_heartbeat: timeOrNull(vm.lastHeartbeatMs),
    last_seen: timeOrNull(vm.lastSeenMs),
    created_at: timeOrNull(vm.createdAtMs),
    updated_at: timeOrNull(vm.updatedAtMs),
    incarnation: vm.incarnation,
    life: vm.life,
    runner_name: vm.runnerName,
    agent_version: vm.agentVersion,
    protocol_version: vm.protocolVersion,
    channel: vm.channel,
    epoch: vm.epoch,
    acked_seq: vm.ackedSeq,
    drained: vm.drained,
    problem: vm.problem,
  };
}

export function renderCommand(command: CommandView): object {
  return {
    id: command.id,
    vm_id: command.vmId,
    seq: command.seq,
    type: command.type,
    command: command.type,
    parameters: command.parameters,
    state: command.state,
    status: command.state,
    attempt: command.attempt,
    created_by: command.createdBy,
    created_at: timeOrNull(command.createdAtMs),
    expires_at: timeOrNull(command.expiresAtMs),
    sent_at: timeOrNull(command.sentAtMs),
    acknowledged_at: timeOrNull(command.acknowledgedAtMs),
    finished_at: timeOrNull(command.finishedAtMs),
    message: command.message,
    result: command.result,
  };
}

export function timeOrNull(ms: number | null): string | null {
  return ms === null ? null : new Date(ms).toISOString();
}

/** A duration in a request, as a person writes it. */
export function readTimeMs(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const ms = parseDurationMs(text);
  if (ms === undefined || ms === 0)
    throw new MigError("invalid_request", `${name} is a duration, as in "1h"`);
  return ms;
}

/** Dates end somewhere: an order good for 200,000 years could be stored by nobody and shown by nobody. */
const expiryMsMax = 365 * 86_400_000;

export function readExpiryMs(text: string | undefined): number | undefined {
  const ms = readTimeMs("expires_in", text);
  if (ms !== undefined && ms > expiryMsMax)
    throw new MigError("invalid_request", "expires_in is at most 365d");
  return ms;
}
