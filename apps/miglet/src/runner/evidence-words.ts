import type { JobData, JobResult, JobUsage } from "@mig/protocol";

/** When something was seen, by both clocks: the wall clock is for people, the other one for durations. */
export interface Moment {
  wallMs: number;
  monoMs: number;
}

export type EvidenceSource = "perf" | "hook" | "stdout" | "worker" | "exit";
export type Confidence = "hint" | "likely" | "certain";

/** The first time that something of its kind was seen of the job. */
export interface Sighting extends Moment {
  source: EvidenceSource;
  what:
    | "job_message"
    | "running_line"
    | "worker_seen"
    | "worker_gone"
    | "hook_started"
    | "hook_completed"
    | "completion_line"
    | "listener_ended";
}

/** Evidence that cannot all be true: a job has its hooks' user and writes part of the output. */
export type Contradiction =
  | "completion_line_with_worker" // and the Worker works on
  | "completion_line_repeated"
  | "completion_line_without_job"
  | "job_message_without_job" // a ghost (runner-contract §4.8)
  | "running_line_without_worker"
  | "hook_after_end"
  | "hook_repeated"
  | "worker_after_end"
  | "succeeded_but_crashed";

export type ContradictionCounts = Readonly<Partial<Record<Contradiction, number>>>;

/** What is known about the runner's job, as it becomes known. */
export type JobObservation =
  | { kind: "listening" }
  /** The runner has a job, or is about to get one; who it is may come later. From here on it is busy. */
  | { kind: "job_assigned"; source: EvidenceSource }
  /** Say `job_started` now: identified by the hook, or unidentified after the grace. */
  | { kind: "job_started"; job: JobData; source: EvidenceSource; confidence: Confidence }
  /** The hook came after `job_started`: now the ids are known. */
  | { kind: "job_identified"; job: JobData }
  | { kind: "job_finishing" }
  | {
      kind: "job_completed";
      job: JobData;
      result: JobResult;
      source: EvidenceSource;
      confidence: Confidence;
      durationMs?: number;
      /** Of the Listener, when its end is what ended the job. */
      exitCode?: number;
      usage?: JobUsage;
      contradictions?: ContradictionCounts;
      trail?: readonly Sighting[];
    };

/** What happened, and when. `worker` comes with every look at the process table. */
export type Evidence =
  | { kind: "line"; text: string; at: Moment }
  | { kind: "hook"; hook: "started" | "completed"; job: JobData; at: Moment }
  /** A counter of Runner.perf. */
  | { kind: "perf"; counter: string; at: Moment }
  /** `present` is undefined when the process table cannot be read. */
  | { kind: "worker"; present: boolean | undefined; at: Moment }
  | { kind: "usage"; usage: JobUsage }
  | { kind: "exit"; isCrash: boolean; exitCode?: number | undefined; at: Moment };

export interface EvidenceBounds {
  /** How long `job_started` waits for the hook. */
  identityMs: number;
  /** How long the Worker may be gone before the job counts as over without a completion line. */
  goneMs: number;
  /** How long a job may be announced without a Worker before it counts as a ghost. */
  ghostMs: number;
}

/**
 * waiting    no sign of a job
 * latched    the Listener got a job message and has not acquired the job yet, or never will
 * assigned   something says that there is one: the "Running job" line, a Worker, a hook. Not announced yet
 * started    announced by `job_started`
 * over       announced by `job_completed`. Runners are ephemeral: what still comes is an echo or an imitation
 */
export type JobPhase = "waiting" | "latched" | "assigned" | "started" | "over";

export interface JobEvidence {
  phase: JobPhase;
  hasListened: boolean;
  job: JobData;
  source: EvidenceSource;
  assignedAt: Moment;
  hasHook: boolean;
  isFinishing: boolean;
  hasRunningLine: boolean;
  /** A Worker was seen, so its absence means something. */
  sawWorker: boolean;
  worker: "none" | "running" | "unknown";
  /** By the monotonic clock. */
  goneSinceMs: number | undefined;
  /** Of the completion line. */
  said: JobResult | undefined;
  /** A completion line came and the Worker worked on, or a second one came: the job's name writes such lines. */
  isImitated: boolean;
  /** Announced for too long without a Worker; said once. */
  hasStalled: boolean;
  usage: JobUsage | undefined;
  contradictions: ContradictionCounts;
  trail: readonly Sighting[];
}
