import { isBusy, type JobEvidence, type JobPhase } from "./evidence.ts";

/** What is known at one moment of whether the runner has a job. */
export interface RunnerFacts {
  job: JobPhase;
  worker: "none" | "running" | "unknown";
  /** The Listener got a job message and ended no job since. */
  hasJobMessage: boolean;
  hasRunningLine: boolean;
  hook: "none" | "started" | "completed";
  /** A job was announced and no Worker came for `ghostMs`. */
  hasStalled: boolean;
  /** What could not be looked at in time: nothing can be proved then. */
  unseen: readonly string[];
}

export function factsOf(evidence: JobEvidence, unseen: readonly string[]): RunnerFacts {
  const { phase, worker, hasRunningLine, hasHook, isFinishing, hasStalled, trail } = evidence;
  return {
    job: phase,
    worker,
    hasJobMessage: isBusy(evidence) && trail.some(({ what }) => what === "job_message"),
    hasRunningLine,
    hook: isFinishing ? "completed" : hasHook ? "started" : "none",
    hasStalled,
    unseen,
  };
}
