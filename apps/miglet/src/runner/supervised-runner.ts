import { join } from "node:path";
import type { Clock, Log } from "@mig/kit";
import { type JobData, maybe } from "@mig/protocol";
import type { RunnerRecord } from "../memory/state-file.ts";
import type { RunnerEnvironment } from "./environment.ts";
import type { JobObservation } from "./evidence.ts";
import type { RunnerExit } from "./exit.ts";
import type { InstalledRunner } from "./installed-runner.ts";

export interface SuperviseSettings {
  installed: InstalledRunner;
  name: string;
  id?: number;
  labels: string[];
  runnerUrl?: string;
  runnerGroup?: string;
  commandId?: string;
  jitConfig?: string;
  /** For output and hook files, in its own subfolder. */
  stateDir: string;
  bootId: string;
  environment: RunnerEnvironment;
  /** The operator's own hooks, run after ours. */
  chainHooks?: { started?: string; completed?: string };
  timing?: Partial<RunnerTiming>;
  log: Log;
  clock?: Clock;
}

export interface RunnerTiming {
  watchMs: number;
  /** How long `job_started` waits for the hook to tell who the job is. */
  identityMs: number;
  /** How long the Worker may be gone before the job counts as over without a completion line. */
  goneMs: number;
  relaunchMs: number;
  relaunchesMax: number;
  relaunchWindowMs: number;
  updateMs: number;
  /** How long a Worker may outlive its Listener. */
  orphanMs: number;
  outputBytesMax: number;
}

export const timingDefaults: RunnerTiming = {
  watchMs: 500,
  identityMs: 5000,
  goneMs: 5000,
  relaunchMs: 5000,
  relaunchesMax: 5,
  relaunchWindowMs: 600_000,
  updateMs: 31_000,
  orphanMs: 600_000,
  outputBytesMax: 8 * 1024 * 1024,
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
  /** The record changed (pid after a relaunch, offsets, listened): put it into the state file. */
  onRecord(record: RunnerRecord): void;
  /** Once, as the very last call; every observation has been made before. */
  onExit(exit: RunnerExit): void;
}

export interface SupervisedRunner {
  readonly record: RunnerRecord;
  isAlive(): boolean;
  /** By what was seen last: a job is assigned and not completed, or a Worker runs. */
  isBusy(): boolean;
  /** Looks at output, hooks and process table now, then answers as `isBusy`. */
  checkBusy(): Promise<boolean>;
  currentJob(): JobData | undefined;
  /** SIGINT to the Listener alone: idle → it ends; busy → it cancels the job and ends. */
  interrupt(): void;
  /** SIGKILL to the whole group: the last step. */
  kill(): Promise<void>;
  /** Resolves true when `onExit` was called, false after `withinMs`. */
  whenEnded(withinMs: number): Promise<boolean>;
  /** The registration was deleted or we are stopping: the exit is not a crash and nothing is relaunched. */
  expectEnd(why: "removed" | "stopped"): void;
  /** Stops watching; the runner goes on without us. */
  release(): Promise<void>;
}
