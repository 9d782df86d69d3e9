import type { EvidenceSource } from "./evidence-words.ts";
import { readListenerLine } from "./listener-lines.ts";

/** How far the Listener is. `session_conflict` and `updating` are detours that take their time. */
export type Stage = "started" | "connected" | "session_conflict" | "updating" | "listening";

export type Trouble =
  | "session_conflict"
  | "clock_skew"
  | "connect_error"
  | "registration_deleted"
  | "update_started";

/** What is known of the runner besides its job. */
export type RunnerNews =
  /** `withinMs`: the next stage must come within; undefined where nothing more is to come. */
  | { kind: "stage"; stage: Stage; withinMs?: number }
  /** Once for each series of the same lines. */
  | { kind: "trouble"; what: Trouble; message: string }
  /** A job was announced and no Worker has come: recycle the VM unless GitHub knows better (runner-contract §4.8). */
  | { kind: "job_stalled"; why: "ghost"; source: EvidenceSource; forMs: number };

/** How long each stage may last. */
export interface StageTiming {
  /** Until "Connected to GitHub", which is printed before anything is asked of GitHub: the start of .NET. */
  connectMs: number;
  /** From there until "Listening for Jobs": a session, with its retries. */
  listenMs: number;
  /** A Listener gives up a session that another one holds after four minutes, with code 5 (runner-contract §4.5). */
  conflictMs: number;
  /** A download of 900 s at most, three times, and the script that puts it in place (§10). */
  updatingMs: number;
  /** Lines of one kind that come so long after each other are two series; the end of one is not always said (§4.3). */
  seriesMs: number;
}

export interface NewsState {
  stage: Stage;
  /** When a line of each trouble came last, by the monotonic clock. */
  lastMs: Readonly<Partial<Record<Trouble, number>>>;
}

export interface ToldNews {
  state: NewsState;
  news: RunnerNews[];
}

/** What a start or a restart of the Listener is told as. */
export function beginStages(timing: StageTiming, before?: NewsState): ToldNews {
  const state: NewsState = { stage: "started", lastMs: before?.lastMs ?? {} };
  return { state, news: [stageNews("started", timing)] };
}

/** Adds one line of the Listener's output. Pure. */
export function judgeNews(
  before: NewsState,
  text: string,
  { nowMs, hasJob }: { nowMs: number; hasJob: boolean },
  timing: StageTiming,
): ToldNews {
  const read = readListenerLine(text);
  const told: ToldNews = { state: before, news: [] };
  // No Listener with a job asks for a session; the job's name may say so (runner-contract §4.6).
  if (hasJob && (read?.line === "session_conflict" || read?.line === "clock_skew")) return told;
  switch (read?.line) {
    case "connected":
      // Printed again before each try: it ends neither a conflict nor an update.
      if (before.stage === "started") reach(told, "connected", timing);
      break;
    case "listening":
    case "reconnected":
      told.state = { ...told.state, lastMs: {} };
      if (read.line === "listening") reach(told, "listening", timing);
      break;
    case "running":
      reach(told, "listening", timing);
      break;
    case "session_conflict":
      reach(told, "session_conflict", timing);
      tell(told, "session_conflict", text, nowMs, timing);
      break;
    case "update_started":
      reach(told, "updating", timing);
      tell(told, "update_started", text, nowMs, timing);
      break;
    case "clock_skew":
    case "connect_error":
    case "registration_deleted":
      tell(told, read.line, text, nowMs, timing);
      break;
    default:
  }
  return told;
}

function reach(told: ToldNews, stage: Stage, timing: StageTiming): void {
  if (told.state.stage === stage) return;
  told.state = { ...told.state, stage };
  told.news.push(stageNews(stage, timing));
}

function stageNews(stage: Stage, timing: StageTiming): RunnerNews {
  const withinMs = {
    started: timing.connectMs,
    connected: timing.listenMs,
    session_conflict: timing.conflictMs,
    updating: timing.updatingMs,
    listening: undefined,
  }[stage];
  return { kind: "stage", stage, ...(withinMs === undefined ? {} : { withinMs }) };
}

function tell(told: ToldNews, what: Trouble, text: string, nowMs: number, timing: StageTiming): void {
  const lastMs = told.state.lastMs[what];
  told.state = { ...told.state, lastMs: { ...told.state.lastMs, [what]: nowMs } };
  if (lastMs !== undefined && nowMs - lastMs < timing.seriesMs) return;
  told.news.push({ kind: "trouble", what, message: text.slice(0, 300) });
}
