import { isTerminal, nextVmState } from "@mig/lifecycle";
import { readCompleted, readJob, type VmEvent } from "@mig/protocol";
import type { FlowContext } from "../context.ts";
import { endJob, openJob } from "../events/job-ledger.ts";

/** `job_started`: a job runs on this VM from now on. */
export function startJob(context: FlowContext, event: VmEvent): void {
  const { vm, log } = context;
  const job = readJob(event.data);
  vm.state = nextVmState(vm.state, "job_started");
  openJob(context, { ...job, startedAtMs: job.startedAtMs ?? event.occurredAtMs });
  log.info({ job_id: job.jobId, run_id: job.runId, repository: job.repository }, "a job started");
}

/** `job_heartbeat`: it still runs. Also the first sign of a job whose start was dropped. */
export function noteJob(context: FlowContext, event: VmEvent): void {
  const { unit, vm } = context;
  vm.state = nextVmState(vm.state, "job_heartbeat");
  const job = readJob(event.data);
  if (unit.openJob(vm.vmId) === undefined && job.jobId !== "" && vm.state === "running")
    openJob(context, job);
}

/** `job_completed`: it is over. The VM is not free by that: an ephemeral one shuts down next. */
export function completeJob(context: FlowContext, event: VmEvent): void {
  const { vm, log } = context;
  const job = readCompleted(event.data);
  vm.state = nextVmState(vm.state, "job_completed");
  if (!isTerminal(vm.state)) vm.runnerState = "idle";
  if (!endJob(context, job.result, job)) {
    // Its start was dropped: the job is on record all the same.
    const tookMs = Math.min(Math.max(0, job.durationMs ?? 0), event.occurredAtMs);
    openJob(context, { ...job, startedAtMs: job.startedAtMs ?? event.occurredAtMs - tookMs });
    endJob(context, job.result, job);
  }
  log.info(
    { job_id: job.jobId, run_id: job.runId, result: job.result, duration_ms: job.durationMs },
    "a job completed",
  );
}
