import type { JobData, JobResult } from "@mig/protocol";

export type EvidenceSource = "hook" | "stdout" | "worker" | "exit";
export type Confidence = "hint" | "likely" | "certain";

/** What is known about the runner's job, as it becomes known. */
export type JobObservation =
  | { kind: "listening" }
  /** The runner has a job; who it is may come later. From here on it is busy. */
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
    };

/** What happened, and when. `worker` and `time` come with every look at the process table. */
export type Evidence =
  | { kind: "line"; text: string; atMs: number }
  | { kind: "hook"; hook: "started" | "completed"; job: JobData; atMs: number }
  /** `present` is undefined where the process table cannot be read (off Linux). */
  | { kind: "worker"; present: boolean | undefined; atMs: number }
  | { kind: "exit"; atMs: number };

export interface EvidenceBounds {
  /** How long `job_started` waits for the hook. */
  identityMs: number;
  /** How long the Worker may be gone before the job counts as over without a completion line. */
  goneMs: number;
}

/**
 * waiting    no sign of a job
 * assigned   something says that there is one: the "Running job" line, a Worker, a hook. Not announced yet
 * started    announced by `job_started`
 * over       announced by `job_completed`. Runners are ephemeral: what still comes is an echo or an imitation
 */
export interface JobEvidence {
  phase: "waiting" | "assigned" | "started" | "over";
  hasListened: boolean;
  job: JobData;
  source: EvidenceSource;
  assignedAtMs: number;
  hasHook: boolean;
  isFinishing: boolean;
  /** A Worker was seen, so its absence means something. */
  sawWorker: boolean;
  workerPresent: boolean;
  goneSinceMs: number | undefined;
  /** Of the completion line. */
  said: JobResult | undefined;
  /** A completion line came and the Worker worked on, or a second one came: the job's name writes such lines. */
  isImitated: boolean;
}

export function noEvidence(known?: { listened: boolean; job?: JobData | undefined }): JobEvidence {
  const job = known?.job;
  return {
    phase: job === undefined ? "waiting" : "started",
    hasListened: known?.listened ?? false,
    job: job ?? { jobId: "", runId: "" },
    source: "worker",
    assignedAtMs: job?.startedAtMs ?? 0,
    hasHook: job !== undefined && job.runId !== "",
    isFinishing: false,
    sawWorker: false,
    workerPresent: false,
    goneSinceMs: undefined,
    said: undefined,
    isImitated: false,
  };
}

export function moveTimes(state: JobEvidence, byMs: number): JobEvidence {
  const { goneSinceMs, job } = state;
  return {
    ...state,
    assignedAtMs: state.assignedAtMs + byMs,
    goneSinceMs: goneSinceMs === undefined ? undefined : goneSinceMs + byMs,
    job: job.startedAtMs === undefined ? job : { ...job, startedAtMs: job.startedAtMs + byMs },
  };
}

const time = String.raw`\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ`;
const listeningLine = new RegExp(`^${time}: Listening for Jobs$`);
const runningLine = new RegExp(`^${time}: Running job: (.*)$`);
const completedLine = new RegExp(
  `^${time}: Job (.*) completed with result: (Succeeded|SucceededWithIssues|Failed|Canceled|Skipped|Abandoned)$`,
);

const resultOf: Readonly<Record<string, JobResult>> = {
  Succeeded: "succeeded",
  SucceededWithIssues: "succeeded",
  Failed: "failed",
  Canceled: "cancelled",
};

export interface Judged {
  state: JobEvidence;
  observations: JobObservation[];
}

/**
 * Adds one piece of evidence. Pure. Standard output is a hint: whoever names a job writes part of it, with newlines
 * if they like (runner-contract §4.6). So a completion line completes nothing while a Worker runs; the end is the
 * Worker's end or the Listener's, and the result is unknown when imitations were seen.
 */
export function judge(before: JobEvidence, evidence: Evidence, bounds: EvidenceBounds): Judged {
  const state = { ...before };
  const observations: JobObservation[] = [];
  const assign = (source: EvidenceSource): void => {
    if (state.phase !== "waiting") return;
    state.phase = "assigned";
    state.source = source;
    state.assignedAtMs = evidence.atMs;
    state.job = { jobId: "", runId: "", startedAtMs: evidence.atMs };
    observations.push({ kind: "job_assigned", source });
  };
  const start = (source: EvidenceSource): void => {
    if (state.phase !== "assigned") return;
    state.phase = "started";
    const confidence = source === "hook" ? "certain" : state.sawWorker ? "likely" : "hint";
    observations.push({ kind: "job_started", job: state.job, source, confidence });
  };
  const complete = (source: EvidenceSource): void => {
    if (state.phase !== "assigned" && state.phase !== "started") return;
    start(state.source);
    state.phase = "over";
    const { startedAtMs } = state.job;
    observations.push({
      kind: "job_completed",
      job: state.job,
      result: state.said ?? "unknown",
      source: state.said === undefined ? source : "stdout",
      confidence: state.said === undefined ? "hint" : "likely",
      ...(startedAtMs === undefined ? {} : { durationMs: Math.max(0, evidence.atMs - startedAtMs) }),
    });
  };

  switch (evidence.kind) {
    case "line": {
      if (listeningLine.test(evidence.text) && !state.hasListened) {
        state.hasListened = true;
        observations.push({ kind: "listening" });
      }
      const running = runningLine.exec(evidence.text);
      if (running !== null) {
        assign("stdout");
        if (state.job.jobName === undefined)
          state.job = { ...state.job, jobName: (running[1] ?? "").slice(0, 300) };
      }
      const completed = completedLine.exec(evidence.text);
      // Before a job there is nothing to complete; "waiting" here means that somebody imitates.
      if (completed !== null && state.phase !== "waiting") {
        // The Listener prints the name when the job starts and again when it ends: a line inside comes twice.
        if (state.said !== undefined) state.isImitated = true;
        state.said = state.isImitated ? undefined : (resultOf[completed[2] ?? ""] ?? "unknown");
      }
      break;
    }
    case "hook":
      if (evidence.hook === "started") assign("hook");
      if (state.phase === "waiting" || state.phase === "over") break;
      if (!state.hasHook) {
        state.hasHook = true;
        state.job = { ...state.job, ...evidence.job };
        if (state.phase === "started") observations.push({ kind: "job_identified", job: state.job });
        else start("hook");
      }
      if (evidence.hook === "completed" && !state.isFinishing) {
        state.isFinishing = true;
        observations.push({ kind: "job_finishing" });
      }
      break;
    case "worker":
      if (evidence.present === true) {
        assign("worker");
        state.sawWorker = true;
        state.goneSinceMs = undefined;
        // The true line is printed after the Worker's end.
        if (state.said !== undefined) state.isImitated = true;
        state.said = undefined;
      } else state.goneSinceMs ??= evidence.atMs;
      state.workerPresent = evidence.present === true;
      if (state.phase === "assigned" && evidence.atMs - state.assignedAtMs >= bounds.identityMs)
        start(state.source);
      if (isOver(state, evidence, bounds)) complete("worker");
      break;
    case "exit":
      complete("exit");
      break;
  }
  return { state, observations };
}

/**
 * No Worker for a while. The Listener of an ephemeral runner ends within it and settles the matter; to go by the
 * first completion line would be to go by what may be part of the job's name.
 */
function isOver(
  state: JobEvidence,
  look: { present: boolean | undefined; atMs: number },
  bounds: EvidenceBounds,
): boolean {
  if (look.present === true || (state.phase !== "assigned" && state.phase !== "started")) return false;
  const hadWorker = state.sawWorker || state.hasHook;
  const goneForMs = look.atMs - Math.max(state.goneSinceMs ?? look.atMs, state.assignedAtMs);
  if (look.present === undefined) return state.said !== undefined && goneForMs >= bounds.goneMs;
  // Between the "Running job" line and its Worker lie the start of a process and a message to it.
  return goneForMs >= (hadWorker ? bounds.goneMs : bounds.goneMs + bounds.identityMs * 2);
}
