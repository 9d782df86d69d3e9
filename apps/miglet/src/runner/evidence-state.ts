import type { JobData } from "@mig/protocol";
import type { JobEvidence, Moment } from "./evidence-words.ts";

/** What a process before this one knew. */
export interface KnownJob {
  listened: boolean;
  /** Announced by `job_started`, and not yet over. */
  job?: JobData | undefined;
  /** What had been seen of a job that was not announced, or was over. */
  phase?: "latched" | "assigned" | "over" | undefined;
  jobName?: string | undefined;
  /** How long ago, by the monotonic clock of now, the job was assigned. */
  assignedAt?: Moment | undefined;
}

export function noEvidence(known?: KnownJob): JobEvidence {
  const { job, jobName } = known ?? {};
  const assignedAt = known?.assignedAt ?? { wallMs: job?.startedAtMs ?? 0, monoMs: 0 };
  const started = assignedAt.wallMs === 0 ? {} : { startedAtMs: assignedAt.wallMs };
  return {
    phase: job === undefined ? (known?.phase ?? "waiting") : "started",
    hasListened: known?.listened ?? false,
    job: job ?? { jobId: "", runId: "", ...started, ...(jobName === undefined ? {} : { jobName }) },
    source: known?.phase === "latched" ? "perf" : "worker",
    assignedAt,
    hasHook: job !== undefined && job.runId !== "",
    isFinishing: false,
    hasRunningLine: jobName !== undefined,
    sawWorker: false,
    worker: "none",
    goneSinceMs: undefined,
    said: undefined,
    isImitated: false,
    hasStalled: false,
    usage: undefined,
    contradictions: {},
    trail: [],
  };
}

/** The wall clock was set: what is reported in its terms moves along. Durations are not measured with it. */
export function moveTimes(state: JobEvidence, byMs: number): JobEvidence {
  const { job } = state;
  if (job.startedAtMs === undefined) return state;
  return { ...state, job: { ...job, startedAtMs: job.startedAtMs + byMs } };
}

/** The Listener is started again: the job message that its predecessor got is nobody's any more. */
export function forgetLatch(state: JobEvidence): JobEvidence {
  return state.phase === "latched" ? { ...state, phase: "waiting", hasStalled: false } : state;
}

export function isBusy({ phase, worker }: JobEvidence): boolean {
  return phase === "latched" || phase === "assigned" || phase === "started" || worker === "running";
}

/** A job message alone is not a job: the service may refuse the job, or give it to nobody (runner-contract §4.8). */
export function ranJob({ phase }: JobEvidence): boolean {
  return phase === "assigned" || phase === "started" || phase === "over";
}
