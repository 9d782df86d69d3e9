import { uptime } from "node:os";
import { asObject, type JsonObject, maybe, readNumber, readText } from "@mig/protocol";
import type { RunnerRecord } from "../memory/state-file.ts";
import type { JobEvidence, KnownJob, Moment } from "./evidence.ts";
import { isOurs, type RunnerScope } from "./scope.ts";

/** What the supervision wants to know again after a restart of the agent; opaque to the memory that keeps it. */
export interface RunnerNotes {
  launcher?: "run.sh" | undefined;
  scope?: RunnerScope | undefined;
  /** The Listener ended with this code and is to be started again, for the `count`-th time. */
  relaunch?: { exitCode: number; count: number } | undefined;
  /** Of a job that the record's keeper was not told of yet, or no longer. */
  phase?: "latched" | "assigned" | "started" | "over" | undefined;
  jobName?: string | undefined;
  /** Seconds after the machine's start at which the job was assigned: no clock that is set can change it. */
  assignedAtUptimeS?: number | undefined;
  assignedAtMs?: number | undefined;
}

export type NotedRecord = RunnerRecord & { notes?: JsonObject };

export function writeNotes(notes: RunnerNotes): JsonObject {
  return {
    ...maybe("launcher", notes.launcher),
    ...maybe("scope", notes.scope),
    ...(notes.relaunch === undefined
      ? {}
      : { relaunch_exit_code: notes.relaunch.exitCode, relaunch_count: notes.relaunch.count }),
    ...maybe("phase", notes.phase),
    ...maybe("job_name", notes.jobName),
    ...maybe("assigned_at_uptime_s", notes.assignedAtUptimeS),
    ...maybe("assigned_at_ms", notes.assignedAtMs),
  };
}

/** Anything that a file may hold is notes; what makes no sense is left out. */
export function readNotes(value: unknown): RunnerNotes {
  const from = asObject(value) ?? {};
  const scope = readText(from, "scope");
  const exitCode = readNumber(from, "relaunch_exit_code");
  const phase = readText(from, "phase");
  return {
    ...(readText(from, "launcher") === "run.sh" ? { launcher: "run.sh" } : {}),
    ...(scope?.startsWith("/") && isOurs(scope) ? { scope } : {}),
    ...(exitCode === undefined
      ? {}
      : {
          relaunch: { exitCode, count: Math.min(100, Math.max(0, readNumber(from, "relaunch_count") ?? 1)) },
        }),
    ...(phase === "latched" || phase === "assigned" || phase === "started" || phase === "over"
      ? { phase }
      : {}),
    ...maybe("jobName", readText(from, "job_name")),
    ...maybe("assignedAtUptimeS", readNumber(from, "assigned_at_uptime_s")),
    ...maybe("assignedAtMs", readNumber(from, "assigned_at_ms")),
  };
}

/** Of a job, as far as there is one. */
export function noteJob({ phase, job, assignedAt }: JobEvidence, now: Moment): Partial<RunnerNotes> {
  if (phase === "waiting")
    return { phase: undefined, jobName: undefined, assignedAtUptimeS: undefined, assignedAtMs: undefined };
  const agoS = (now.monoMs - assignedAt.monoMs) / 1000;
  return {
    phase,
    jobName: job.jobName,
    assignedAtUptimeS: Math.round((uptime() - agoS) * 100) / 100,
    assignedAtMs: assignedAt.wallMs,
  };
}

/** When a job of an earlier process began, by the clocks of this one. */
export function assignedAt(notes: RunnerNotes, isSameBoot: boolean, now: Moment): Moment | undefined {
  const { assignedAtUptimeS, assignedAtMs } = notes;
  if (assignedAtMs === undefined) return undefined;
  const agoMs =
    isSameBoot && assignedAtUptimeS !== undefined
      ? (uptime() - assignedAtUptimeS) * 1000
      : now.wallMs - assignedAtMs;
  return { wallMs: assignedAtMs, monoMs: now.monoMs - Math.max(0, agoMs) };
}

/** `started` without a job: the record's keeper was told, and its memory lost it or knows it is over. */
export function knownPhase({ phase }: RunnerNotes): KnownJob["phase"] {
  return phase === "started" ? "over" : phase;
}
