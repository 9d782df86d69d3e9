import { type JobReport, maybe, type RunnerReport } from "@mig/protocol";
import type { State } from "./life/words.ts";

/** What a state looks like from outside: the same words in heartbeats and in the log. */
export interface Report {
  readonly migletState: State["at"];
  readonly runner: RunnerReport;
  readonly job?: JobReport;
}

export function reportOf(state: State): Report {
  const runner = "runner" in state ? state.runner : undefined;
  const job = "job" in state ? state.job : undefined;
  const isBusy =
    state.at === "job_running" || job !== undefined || (state.at === "draining" && state.phase === "busy");
  const isListening = runner !== undefined && state.at !== "registering_runner";
  return {
    migletState: state.at,
    runner: {
      state: isListening ? (isBusy ? "running" : "idle") : "offline",
      configured: runner !== undefined,
      labels: [...(runner?.labels ?? [])],
      ...maybe("name", runner?.name),
    },
    ...(job === undefined ? {} : { job: { ...job, status: "running" } }),
  };
}

/** What every log line says while a job runs (seed 001, "Logging"). */
export function correlationOf(state: State): Record<string, unknown> {
  const { job } = reportOf(state);
  return job === undefined ? {} : { job_id: job.jobId, run_id: job.runId };
}

/** For log lines: who and what, and the phase within the state. */
export function statusOf(state: State): Record<string, unknown> {
  const { job, runner } = reportOf(state);
  return {
    state: state.at,
    ...("phase" in state ? { phase: state.phase } : {}),
    ...("reason" in state ? { reason: state.reason } : {}),
    ...maybe("runner_name", runner.name),
    ...(job === undefined ? {} : { job_id: job.jobId, run_id: job.runId }),
  };
}
