import { spawn } from "node:child_process";
import { open } from "node:fs/promises";
import { pause } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { buildEnvironment, type RunnerEnvironment, spawnUser } from "./environment.ts";
import type { InstalledRunner } from "./installed-runner.ts";
import { hasWorker, isRunning, readProcStat } from "./proc.ts";

export interface ProcessEnd {
  /** Both undefined when the process was not our child. */
  code?: number | undefined;
  signal?: string | undefined;
}

/** A Listener: a child of ours, or one found again after a restart of the agent. */
export interface ListenerProcess {
  pid: number;
  startTicks: number | undefined;
  ended: Promise<ProcessEnd>;
  isAlive(): boolean;
}

export interface LaunchSettings {
  installed: InstalledRunner;
  environment: RunnerEnvironment;
  /** Hooks, the JIT config: never in argv. */
  variables: Readonly<Record<string, string>>;
  outputPath: string;
}

/**
 * Starts `bin/Runner.Listener run` itself instead of run.sh, whose exit code says nothing and whose pid is not the
 * one to signal (runner-contract §3.3, §3.9). Its own process group, no terminal, output to a file: so it lives on
 * when the agent ends.
 */
export async function launchListener(settings: LaunchSettings): Promise<ListenerProcess> {
  const { installed, environment, variables, outputPath } = settings;
  const output = await open(outputPath, "a", 0o600);
  try {
    const child = spawn(installed.listener, ["run"], {
      cwd: installed.dir,
      env: buildEnvironment(environment, variables),
      stdio: ["ignore", output.fd, output.fd],
      detached: true,
      ...spawnUser(environment),
    });
    const { pid } = child;
    let isAlive = true;
    const ended = new Promise<ProcessEnd>((resolve) => {
      child.once("exit", (code, signal) => {
        isAlive = false;
        resolve({ code: code ?? undefined, signal: signal ?? undefined });
      });
    });
    const started = new Promise<void>((resolve, reject) => {
      child.once("spawn", resolve);
      child.once("error", reject);
    });
    await started.catch((cause: unknown) => {
      throw new MigError("runner_start_failed", `${installed.listener} could not be started.`, { cause });
    });
    if (pid === undefined) throw new MigError("runner_start_failed", `${installed.listener} has no pid.`);
    child.unref();
    const stat = await readProcStat(pid);
    return { pid, startTicks: stat?.startTicks, ended, isAlive: () => isAlive };
  } finally {
    await output.close();
  }
}

/** Watches a process that is not our child; ended at once when it is gone or is another one. */
export async function findListener(
  pid: number,
  startTicks: number | undefined,
  watchMs: number,
  signal: AbortSignal,
): Promise<ListenerProcess> {
  let isAlive = await isRunning(pid, startTicks);
  const watch = async (): Promise<ProcessEnd> => {
    while (isAlive && !signal.aborted) {
      await pause(watchMs, signal);
      isAlive = await isRunning(pid, startTicks);
    }
    return {};
  };
  return { pid, startTicks, ended: watch(), isAlive: () => isAlive };
}

/** SIGINT to the Listener alone: a signal to the group would hit the job's own processes (runner-contract trap 5). */
export function interruptListener(listener: ListenerProcess): void {
  if (listener.isAlive()) sendSignal(listener.pid, "SIGINT");
}

/**
 * SIGKILL to the whole group. After the Listener's end only while its Worker still proves that the group is ours:
 * the number may belong to another group by now.
 */
export async function killRunner(listener: ListenerProcess): Promise<void> {
  if (listener.isAlive() || (await hasWorker(listener.pid)) === true) sendSignal(-listener.pid, "SIGKILL");
}

function sendSignal(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has just ended.
  }
}
