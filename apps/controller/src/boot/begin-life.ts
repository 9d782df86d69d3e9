import type { Log } from "@mig/kit";
import { isTerminal } from "@mig/lifecycle";
import { move } from "../commands/move.ts";
import { contextOf, type FlowContext, type Rules } from "../context.ts";
import { endJob } from "../events/job-ledger.ts";
import type { IncarnationRow, VmRow } from "../store/rows.ts";
import type { Unit } from "../store/unit.ts";

/**
 * Who speaks: finds the VM and the incarnation that a message belongs to, and begins a VM or a new life where the
 * message is the first of one.
 *
 * An agent of MIG names its incarnation. One that the controller has not seen is newer than what it knows, because
 * an agent makes a new one only when its VM has booted; one that has lived and is not current is old, and what it says
 * is kept but moves nothing. The exception: an agent delivers what an earlier boot could not, and if that boot never
 * reached the controller its name is new here. Such an event is older than the current life; should a clock that is
 * wrong make one look so that is not, the agent's connect or heartbeat, which only the living send, begins the life.
 * Agents from before MIG name none: `restarted` says whether this message can only come from one that has just begun
 * (reference/go-agent-wire.md §4, §14.7).
 */
export interface Speaker {
  vmId: string;
  /** As the message says; a VM of which no message told one is in the pool and org "default". */
  poolId: string | undefined;
  orgId: string | undefined;
  incarnation: string | undefined;
  /** Of an event: when it happened, by the VM's clock. */
  occurredAtMs?: number;
  /** Asked for agents from before MIG only. */
  restarted(vm: VmRow): boolean;
}

export interface Recognized {
  context: FlowContext;
  cursor: IncarnationRow;
  /** False: it belongs to an earlier life. Keep it; let it move nothing. */
  current: boolean;
}

export function recognize(unit: Unit, speaker: Speaker, rules: Rules, log: Log): Recognized {
  const vm = unit.vm(speaker.vmId);
  if (vm === undefined) {
    const born = unit.addVm(newVm(speaker, unit.nowMs));
    return began(contextOf(unit, born, rules, log), speaker.incarnation ?? "before-mig-1");
  }
  vm.poolId = speaker.poolId ?? vm.poolId;
  vm.orgId = speaker.orgId ?? vm.orgId;
  const context = contextOf(unit, vm, rules, log);
  const named = speaker.incarnation;
  if (named === undefined) {
    const isOver = isTerminal(vm.state) && vm.protocolVersion === 0;
    if (vm.life === 0 || isOver || (vm.protocolVersion === 0 && speaker.restarted(vm)))
      return began(context, `before-mig-${vm.life + 1}`);
    return { context, cursor: cursorOf(unit, vm, vm.incarnation), current: true };
  }
  if (named === vm.incarnation) return { context, cursor: cursorOf(unit, vm, named), current: true };
  const cursor = unit.incarnation(vm.vmId, named);
  const lifeBeganAtMs = unit.incarnation(vm.vmId, vm.incarnation)?.beganAtMs ?? 0;
  const isOlder = speaker.occurredAtMs !== undefined && speaker.occurredAtMs < lifeBeganAtMs;
  if (cursor?.lived !== true && !isOlder) return began(context, named);
  return { context, cursor: cursor ?? cursorOf(unit, vm, named), current: false };
}

/** A life begins: what belonged to the one before it ends here. */
function began(context: FlowContext, incarnation: string): Recognized {
  const { unit, vm, nowMs } = context;
  if (vm.incarnation !== "") {
    endJob(context, "unknown");
    unit.settleGrant({ vmId: vm.vmId, incarnation: vm.incarnation, to: "void" });
    for (const command of unit.openCommands(vm.vmId)) {
      // An order that waited for whichever boot comes goes on waiting, unless that boot took it.
      if (command.incarnation !== null || command.state === "acknowledged") {
        move(command, "expire", nowMs, "the VM has begun a new life since");
      }
    }
  }
  vm.incarnation = incarnation;
  vm.life += 1;
  vm.state = "initializing";
  vm.reachability = "online";
  vm.runnerState = "offline";
  vm.migletState = null;
  vm.runnerName = null;
  vm.registrations = 0;
  vm.drained = null;
  vm.problem = null;
  vm.protocolVersion = 0;
  vm.lastSeenMs = nowMs;
  context.log.info({ incarnation, life: vm.life }, "a VM begins a life");
  const cursor = cursorOf(unit, vm, incarnation);
  cursor.lived = true;
  return { context, cursor, current: true };
}

function cursorOf(unit: Unit, vm: VmRow, incarnation: string): IncarnationRow {
  return (
    unit.incarnation(vm.vmId, incarnation) ??
    unit.addIncarnation({ vmId: vm.vmId, incarnation, ackedSeq: 0, lived: false, beganAtMs: unit.nowMs })
  );
}

/** A VM of which nothing is known but its names; the first life begins with the first message. */
export function newVm(names: Pick<Speaker, "vmId" | "poolId" | "orgId">, nowMs: number): VmRow {
  return {
    vmId: names.vmId,
    poolId: names.poolId ?? "default",
    orgId: names.orgId ?? "default",
    incarnation: "",
    life: 0,
    state: "initializing",
    reachability: "online",
    runnerState: "offline",
    migletState: null,
    currentJob: null,
    health: null,
    agentVersion: null,
    protocolVersion: 0,
    runnerName: null,
    registrations: 0,
    drained: null,
    problem: null,
    sessionEpoch: 0,
    sessionChannel: null,
    commandSeq: 0,
    lastHeartbeatMs: null,
    lastSeenMs: nowMs,
    createdAtMs: nowMs,
    updatedAtMs: nowMs,
  };
}
