import type { JobData } from "@mig/protocol";
import type {
  Contradiction,
  Evidence,
  EvidenceBounds,
  EvidenceSource,
  JobEvidence,
  JobObservation,
  Moment,
  Sighting,
} from "./evidence-words.ts";
import { readListenerLine } from "./listener-lines.ts";

export { forgetLatch, isBusy, type KnownJob, moveTimes, noEvidence, ranJob } from "./evidence-state.ts";

export type {
  Confidence,
  Contradiction,
  ContradictionCounts,
  Evidence,
  EvidenceBounds,
  EvidenceSource,
  JobEvidence,
  JobObservation,
  JobPhase,
  Moment,
  Sighting,
} from "./evidence-words.ts";

export interface Judged {
  state: JobEvidence;
  observations: JobObservation[];
  /** Newly found; they are counted in the state too. */
  contradictions: Contradiction[];
  /** Said once: a job was announced for `ghostMs` and no Worker has come. */
  stalled?: { source: EvidenceSource; forMs: number };
}

/**
 * Adds one piece of evidence. Pure. Standard output is a hint: whoever names a job writes part of it, with newlines
 * if they like (runner-contract §4.6). So a completion line completes nothing while a Worker runs; the end is the
 * Worker's end or the Listener's, and the result is unknown when imitations were seen.
 */
export function judge(before: JobEvidence, evidence: Evidence, bounds: EvidenceBounds): Judged {
  const judged: Judged = { state: { ...before }, observations: [], contradictions: [] };
  switch (evidence.kind) {
    case "line":
      takeLine(judged, evidence.text, evidence.at);
      break;
    case "hook":
      takeHook(judged, evidence);
      break;
    case "perf":
      takeCounter(judged, evidence.counter, evidence.at);
      break;
    case "worker":
      takeWorker(judged, evidence.present, evidence.at, bounds);
      break;
    case "usage":
      judged.state.usage = evidence.usage;
      break;
    case "exit":
      see(judged, { source: "exit", what: "listener_ended", ...evidence.at });
      judged.state.worker = "none";
      if (evidence.isCrash && judged.state.said === "succeeded") contradict(judged, "succeeded_but_crashed");
      complete(judged, "exit", evidence.at, evidence.exitCode);
      break;
  }
  return judged;
}

function takeLine(judged: Judged, text: string, at: Moment): void {
  const { state, observations } = judged;
  const read = readListenerLine(text);
  if (read?.line === "listening" && !state.hasListened) {
    state.hasListened = true;
    observations.push({ kind: "listening" });
  }
  if (read?.line === "running") {
    see(judged, { source: "stdout", what: "running_line", ...at });
    state.hasRunningLine = true;
    assign(judged, "stdout", at);
    if (state.job.jobName === undefined) state.job = { ...state.job, jobName: read.jobName.slice(0, 300) };
  }
  if (read?.line === "completed") {
    // Before a job there is nothing to complete: somebody imitates.
    if (state.phase === "waiting" || state.phase === "latched") {
      contradict(judged, "completion_line_without_job");
      return;
    }
    see(judged, { source: "stdout", what: "completion_line", ...at });
    // The Listener prints the name when the job starts and again when it ends: a line inside comes twice.
    if (state.said !== undefined || state.isImitated) {
      state.isImitated = true;
      contradict(judged, "completion_line_repeated");
    }
    state.said = state.isImitated ? undefined : read.result;
  }
}

function takeHook(
  judged: Judged,
  { hook, job, at }: { hook: "started" | "completed"; job: JobData; at: Moment },
): void {
  const { state, observations } = judged;
  if (state.phase === "over") {
    contradict(judged, "hook_after_end");
    return;
  }
  if (hook === "started") {
    see(judged, { source: "hook", what: "hook_started", ...at });
    assign(judged, "hook", at);
  }
  // A completed hook with nothing to complete: forged, or its Listener died before anybody looked.
  if (state.phase === "waiting" || state.phase === "latched") return;
  if (!state.hasHook) {
    state.hasHook = true;
    state.job = { ...state.job, ...job };
    if (state.phase === "started") observations.push({ kind: "job_identified", job: state.job });
    else start(judged, "hook");
  } else if (hook === "started" && job.runId !== state.job.runId) contradict(judged, "hook_repeated");
  if (hook === "completed" && !state.isFinishing) {
    see(judged, { source: "hook", what: "hook_completed", ...at });
    state.isFinishing = true;
    observations.push({ kind: "job_finishing" });
  }
}

/** The earliest local sign of an assignment, before acknowledgement and acquisition (runner-contract §4.7). */
function takeCounter(judged: Judged, counter: string, at: Moment): void {
  if (!/^MessageReceived_(?:RunnerJobRequest|PipelineAgentJobRequest)$/.test(counter)) return;
  const { state, observations } = judged;
  if (state.phase === "over") return;
  see(judged, { source: "perf", what: "job_message", ...at });
  if (state.phase !== "waiting" && state.phase !== "latched") return;
  if (state.phase === "waiting") observations.push({ kind: "job_assigned", source: "perf" });
  state.phase = "latched";
  state.source = "perf";
  if (!state.hasStalled) state.assignedAt = at;
}

function takeWorker(judged: Judged, present: boolean | undefined, at: Moment, bounds: EvidenceBounds): void {
  const { state } = judged;
  if (present === true) {
    if (state.phase === "over" && state.worker !== "running") contradict(judged, "worker_after_end");
    see(judged, { source: "worker", what: "worker_seen", ...at });
    assign(judged, "worker", at);
    state.sawWorker = true;
    state.goneSinceMs = undefined;
    // The true line is printed after the Worker's end.
    if (state.said !== undefined) {
      state.isImitated = true;
      contradict(judged, "completion_line_with_worker");
    }
    state.said = undefined;
  } else if (present === false || !state.sawWorker) {
    if (state.sawWorker) see(judged, { source: "worker", what: "worker_gone", ...at });
    state.goneSinceMs ??= at.monoMs;
  }
  state.worker = present === undefined ? "unknown" : present ? "running" : "none";
  const forMs = at.monoMs - state.assignedAt.monoMs;
  if (state.phase === "assigned" && forMs >= bounds.identityMs && (state.sawWorker || present === undefined))
    start(judged, state.source);
  if (isOver(state, present, at.monoMs, bounds)) complete(judged, "worker", at);
  else if (forMs >= bounds.ghostMs) stall(judged, forMs);
}

/** A Listener that got a job and works on none: nobody but GitHub knows better (runner-contract §4.8). */
function stall(judged: Judged, forMs: number): void {
  const { state } = judged;
  if (state.hasStalled || state.sawWorker || state.hasHook) return;
  if (state.phase === "latched") contradict(judged, "job_message_without_job");
  else if (state.phase === "assigned" && state.worker === "none")
    contradict(judged, "running_line_without_worker");
  else return;
  state.hasStalled = true;
  judged.stalled = { source: state.source, forMs };
}

/**
 * No Worker for a while. The Listener of an ephemeral runner ends within it and settles the matter; to go by the
 * first completion line would be to go by what may be part of the job's name. Without a Worker or a hook nothing is
 * over before the Listener's end: between "Running job" and the Worker lies a call to the service, with its retries.
 */
function isOver(
  state: JobEvidence,
  present: boolean | undefined,
  nowMs: number,
  bounds: EvidenceBounds,
): boolean {
  if (present === true || (state.phase !== "assigned" && state.phase !== "started")) return false;
  const isGone = nowMs - Math.max(state.goneSinceMs ?? nowMs, state.assignedAt.monoMs) >= bounds.goneMs;
  if (present === undefined) return isGone && state.said !== undefined && !state.sawWorker;
  return isGone && (state.sawWorker || state.hasHook || state.phase === "started");
}

function assign({ state, observations }: Judged, source: EvidenceSource, at: Moment): void {
  if (state.phase !== "waiting" && state.phase !== "latched") return;
  if (state.phase === "waiting") observations.push({ kind: "job_assigned", source });
  state.phase = "assigned";
  state.source = source;
  state.assignedAt = at;
  state.job = { jobId: "", runId: "", startedAtMs: at.wallMs };
}

function start({ state, observations }: Judged, source: EvidenceSource): void {
  if (state.phase !== "assigned") return;
  state.phase = "started";
  const confidence = source === "hook" ? "certain" : state.sawWorker ? "likely" : "hint";
  observations.push({ kind: "job_started", job: state.job, source, confidence });
}

function complete(judged: Judged, source: EvidenceSource, at: Moment, exitCode?: number): void {
  const { state, observations } = judged;
  if (state.phase !== "assigned" && state.phase !== "started") return;
  start(judged, state.source);
  state.phase = "over";
  const { said, job, usage, contradictions, trail } = state;
  const isDoubtful = Object.keys(contradictions).length > 0;
  observations.push({
    kind: "job_completed",
    job,
    result: said ?? "unknown",
    source: said === undefined ? source : "stdout",
    confidence: said === undefined || isDoubtful ? "hint" : "likely",
    ...(job.startedAtMs === undefined
      ? {}
      : { durationMs: Math.max(0, Math.round(at.monoMs - state.assignedAt.monoMs)) }),
    ...(exitCode === undefined ? {} : { exitCode }),
    ...(usage === undefined ? {} : { usage }),
    ...(isDoubtful ? { contradictions } : {}),
    trail,
  });
}

function contradict({ state, contradictions }: Judged, what: Contradiction): void {
  state.contradictions = { ...state.contradictions, [what]: (state.contradictions[what] ?? 0) + 1 };
  contradictions.push(what);
}

/** One of each kind, so the list has a bound. */
function see({ state }: Judged, sighting: Sighting): void {
  if (!state.trail.some(({ what }) => what === sighting.what)) state.trail = [...state.trail, sighting];
}
