import { uuid7 } from "@mig/kit";
import { type JobData, type JobResult, jobToJson, writeJob } from "@mig/protocol";
import type { FlowContext } from "../context.ts";

/**
 * The jobs of a VM: at most one is open. Ids come from the agent; existing agents invent them
 * (reference/go-agent-wire.md §7), so a job is found by its VM and never by them.
 */
export function openJob({ unit, vm, nowMs }: FlowContext, job: JobData): void {
  const startedAtMs = job.startedAtMs ?? nowMs;
  const open = unit.openJob(vm.vmId);
  vm.currentJob = jobToJson({ ...job, startedAtMs, status: "running" });
  vm.runnerState = "running";
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

/** Ends the open job, if there is one. The result stays `unknown` until evidence says more. */
export function endJob({ unit, vm, nowMs }: FlowContext, result: JobResult, job?: JobData): void {
  const open = unit.openJob(vm.vmId);
  if (open !== undefined) {
    open.result = result;
    open.completedAtMs = nowMs;
    if (job !== undefined) open.details = { ...open.details, ...writeJob(job) };
  }
  vm.currentJob = null;
}
