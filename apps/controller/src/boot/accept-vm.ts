import { nextVmState } from "@mig/lifecycle";
import { maybe, readError, readPreemption, readText, type VmEvent } from "@mig/protocol";
import type { FlowContext } from "../context.ts";

/** `vm_started`: the VM is there. The acknowledgement of this event is what the agent waits for. */
export function acceptVm({ vm, log }: FlowContext, event: VmEvent): void {
  vm.state = nextVmState(vm.state, "vm_started");
  vm.agentVersion = readText(event.data, "version") ?? vm.agentVersion;
  vm.problem = null;
  log.info({ agent_version: vm.agentVersion }, "a VM has started");
}

/** `error`: something on the VM went wrong; a fatal one ends the agent. */
export function noteError({ vm, nowMs, log }: FlowContext, event: VmEvent): void {
  const error = readError(event.data);
  const { code, category, message, fatal } = error;
  log.warn({ code, category, fatal, message: message.slice(0, 500) }, "a VM reports an error");
  if (!error.fatal) return;
  vm.state = nextVmState(vm.state, "error");
  vm.problem = { code: error.code, category: error.category, message: error.message, at_ms: nowMs };
}

/** `spool_degraded`: the VM's disk refuses writes, or takes them again. Nothing is lost yet. */
export function noteSpool({ log }: FlowContext, event: VmEvent): void {
  log.warn({ spool: event.data }, "a VM cannot keep its events on disk");
}

/** `preemption_notice`: the cloud takes the VM away; the agent drains by itself. What runs there may be cut off. */
export function notePreemption({ vm, log }: FlowContext, event: VmEvent): void {
  const notice = readPreemption(event.data);
  log.warn({ ...notice, state: vm.state }, "a VM is being taken away by its cloud");
}

/** `events_dropped`: the VM's disk could not keep everything. The gap is on record, and so is its size. */
export function noteDropped({ log }: FlowContext, event: VmEvent): void {
  log.warn({ dropped: event.data, ...maybe("to_seq", event.seq) }, "a VM had to drop events");
}
