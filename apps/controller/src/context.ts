import type { Log } from "@mig/kit";
import type { VmRow } from "./store/rows.ts";
import type { Unit } from "./store/unit.ts";

/**
 * What a flow may touch: one VM's draft inside one unit of work, the clock of that unit, and the rules that an
 * operator set. A flow is plain code without I/O; what it changes is written, or not, with everything else of the
 * unit.
 */
export interface FlowContext {
  readonly unit: Unit;
  readonly vm: VmRow;
  readonly nowMs: number;
  readonly rules: Rules;
  readonly log: Log;
}

export interface Rules {
  /** How long an undelivered command is kept. */
  commandExpiryMs: number;
  /** How long a delivered command may stay unacknowledged before it is delivered again. */
  commandAckMs: number;
  /** register_runner commands for one life of a VM (seed 001: three attempts, then an error). */
  registrationsMax: number;
  /** How long a fleet order that has ended is kept; undefined: for ever. */
  fleetKeptMs?: number;
}

export function contextOf(unit: Unit, vm: VmRow, rules: Rules, log: Log): FlowContext {
  return {
    unit,
    vm,
    nowMs: unit.nowMs,
    rules,
    log: log.child({ vm_id: vm.vmId, pool_id: vm.poolId, org_id: vm.orgId }),
  };
}
