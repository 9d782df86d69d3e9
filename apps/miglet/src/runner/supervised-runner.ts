import { join } from "node:path";
import type { Clock, Log } from "@mig/kit";
import { type JobData, maybe } from "@mig/protocol";
import type { RunnerRecord } from "../memory/state-file.ts";
import type { RunnerEnvironment } from "./environment.ts";
import type { JobObservation } from "./evidence.ts";
import type { RunnerExit } from "./exit.ts";
import type { RunnerFacts } from "./facts.ts";
import type { InstalledRunner } from "./installed-runner.ts";
import type { RunnerNews, StageTiming } from "./news.ts";
import type { NotedRecord } from "./notes.ts";

export interface SuperviseSettings {
  installed: InstalledRunner;
  name: string;
  id?: number;
  labels: string[];
  runnerUrl?: string;
  runnerGroup?: string;
  commandId?: string;
  jitConfig?: string;
  /** For output, hook and counter files, in its own subfolder. */
  stateDir: string;
  bootId: string;
  environment: RunnerEnvironment;
  /** The operator's own hooks, run after ours. */
  chainHooks?: { started?: string; completed?: string };
  /** What is started; default the Listener itself. */
  launcher?: "listener" | "run.sh";
  /** Whether the runner gets a systemd scope of its own; default auto. */
  scope?: "auto" | "systemd" | "none";
  /** Is there when systemd runs this machine. */
  systemdPath?: string;
  timing?: Partial<RunnerTiming>;
  log: Log;
  clock?: Clock;
}

export interface RunnerTiming extends StageTiming {
  watchMs: number;
  /** How long one look may wait for a file or for the process table. */
  lookMs: number;
  /** How long `job_started` waits for the hook to tell who the job is. */
  identityMs: number;
  /** How long the Worker may be gone before the job counts as over without a completion line. */
  goneMs: number;
  /** How long a job may be announced without a Worker before it counts as a ghost. */
  ghostMs: number;
  relaunchMs: number;
  relaunchesMax: number;
  relaunchWindowMs: number;
  updateMs: number;
  /** How long a Worker may outlive its Listener. */
  orphanMs: number;
  /** How often the figures of a job are taken. */
  usageMs: number;
  outputBytesMax: number;
}

export const timingDefaults: RunnerTiming = {
  watchMs: 500,
  lookMs: 2_000,
  identityMs: 5000,
  goneMs: 5000,
  ghostMs: 120_000,
  relaunchMs: 5000,
  relaunchesMax: 5,
  relaunchWindowMs: 600_000,
  updateMs: 31_000,
  orphanMs: 600_000,
  usageMs: 2_000,
  outputBytesMax: 8 * 1024 * 1024,
  connectMs: 120_000,
  listenMs: 300_000,
  conflictMs: 300_000,
  updatingMs: 1_200_000,
  seriesMs: 900_000,
};

/** Of a runner that nothing is known of but where it would be. */
export function newRecord(settings: Omit<SuperviseSettings, "log" | "environment">): RunnerRecord {
  const directory = join(settings.stateDir, "runner");
  return {
    pid: 0,
    bootId: settings.bootId,
    name: settings.name,
    ...maybe("id", settings.id),
    labels: settings.labels,
    ...maybe("runnerUrl", settings.runnerUrl),
    ...maybe("runnerGroup", settings.runnerGroup),
    ...maybe("commandId", settings.commandId),
    dir: settings.installed.dir,
    output: { path: join(directory, "output.log"), offset: 0 },
    hooks: { path: join(directory, "hooks", "jobs.jsonl"), offset: 0 },
    listened: false,
  };
}

export interface RunnerListener {
  onObservation(observation: JobObservation): void;
  /** Stages of the start, trouble that the runner has, a job that does not begin. */
  onNews?(news: RunnerNews): void;
  /** The record changed (pid after a relaunch, offsets, listened, notes): put it into the state file. */
  onRecord(record: NotedRecord): void;
  /** Once, as the very last call; every observation has been made before. */
  onExit(exit: RunnerExit): void;
}

export interface SupervisedRunner {
  readonly record: NotedRecord;
  isAlive(): boolean;
  /** By what was seen last: a job is assigned and not completed, or a Worker runs. */
  isBusy(): boolean;
  /** Looks at output, hooks and process table now, then answers as `isBusy`. */
  checkBusy(): Promise<boolean>;
  /** Looks as `checkBusy` does and answers with everything that tells about a job. */
  checkFacts(): Promise<RunnerFacts>;
  currentJob(): JobData | undefined;
  /** SIGINT to the Listener alone: idle → it ends; busy → it cancels the job and ends. */
  interrupt(): void;
  /** SIGKILL to the whole group or scope: the last step. */
  kill(): Promise<void>;
  /** Resolves true when `onExit` was called, false after `withinMs`. */
  whenEnded(withinMs: number): Promise<boolean>;
  /** The registration was deleted or we are stopping: the exit is not a crash and nothing is relaunched. */
  expectEnd(why: "removed" | "stopped"): void;
  /** Stops watching; the runner goes on without us. */
  release(): Promise<void>;
}
