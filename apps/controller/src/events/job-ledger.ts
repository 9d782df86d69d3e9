import { uuid7 } from "@mig/kit";
import { isTerminal } from "@mig/lifecycle";
import { type JobData, type JobResult, jobToJson, writeJob } from "@mig/protocol";
import type { FlowContext } from "../context.ts";

/**
 * The jobs of a VM: at most one is open. Ids come from the agent; existing agents invent them
 * (reference/go-agent-wire.md §7), so a job is found by its VM and never by them.
 */
export function openJob({ unit, vm, nowMs }: FlowContext, job: JobData): void {
  const startedAtMs = job.startedAtMs ?? nowMs;
  const open = unit.openJob(vm.vmId);
  if (!isTerminal(vm.state)) {
    vm.currentJob = jobToJson({ ...job, startedAtMs, status: "running" });
    vm.runnerState = "running";
  }
  if (open !== undefined) {
    // The same job told with more detail (stdout first, the hook a moment later).
    open.jobId = job.jobId === "" ? open.jobId : job.jobId;
    open.runId = job.runId === "" ? open.runId : job.runId;
    open.details = { ...open.details, ...writeJob(job) };
    return;
  }
  unit.addJob({
    id: uuid7(nowMs),
    vmId: vm.vmId,
    poolId: vm.poolId,
    orgId: vm.orgId,
    incarnation: vm.incarnation,
    jobId: job.jobId,
    runId: job.runId,
    details: writeJob(job),
    result: null,
    startedAtMs,
    completedAtMs: null,
  });
}

/**
 * Ends the open job, or says now how one ended that could not be told before: a result stays `unknown` until
 * evidence says more. Answers false when there is no such job.
 */
export function endJob({ unit, vm, nowMs }: FlowContext, result: JobResult, job?: JobData): boolean {
  vm.currentJob = null;
  const ended = unit.openJob(vm.vmId) ?? unit.unsettledJob(vm.vmId, vm.incarnation);
  if (ended === undefined) return false;
  ended.result = result;
  ended.completedAtMs ??= nowMs;
  if (job !== undefined) ended.details = { ...ended.details, ...writeJob(job) };
  return true;
}
