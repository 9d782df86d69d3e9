import { pause } from "@mig/kit";
import { isRunning } from "./proc.ts";
import { findListenerOf, hasWorker } from "./runner-tree.ts";
import { killScope, type RunnerScope } from "./scope.ts";

export interface ProcessEnd {
  /** Both undefined when the process was not our child. */
  code?: number | undefined;
  signal?: string | undefined;
}

/** A runner: a child of ours, or one found again after a restart of the agent. */
export interface ListenerProcess {
  /** What was started: the Listener itself, or the script around it. It leads its group and session. */
  pid: number;
  startTicks: number | undefined;
  ended: Promise<ProcessEnd>;
  isAlive(): boolean;
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

/**
 * The script around a Listener may be ended by a signal that leaves the Listener behind, taking jobs (runner-contract
 * §3.4): the runner lives as long as one of the two.
 */
export async function withListener(
  script: ListenerProcess,
  watchMs: number,
  signal: AbortSignal,
): Promise<ListenerProcess> {
  let isAlive = script.isAlive() || (await findListenerOf(script.pid)) !== undefined;
  const watch = async (): Promise<ProcessEnd> => {
    const end = await script.ended;
    for (;;) {
      const listenerPid = await findListenerOf(script.pid);
      if (listenerPid === undefined || listenerPid === script.pid || signal.aborted) break;
      await pause(watchMs, signal);
    }
    isAlive = false;
    // Its code says nothing; a signal says that it was not the end of the Listener.
    return { signal: end.signal };
  };
  return { ...script, ended: watch(), isAlive: () => isAlive };
}

/**
 * SIGINT to the Listener alone: a signal to the group would hit the job's own processes, and one to the script nobody
 * (runner-contract traps 3 to 5). Answers whether there was a Listener.
 */
export async function interruptListener(runner: ListenerProcess, isScript: boolean): Promise<boolean> {
  if (!runner.isAlive()) return false;
  const listenerPid = isScript ? await findListenerOf(runner.pid) : runner.pid;
  if (listenerPid === undefined) return false;
  sendSignal(listenerPid, "SIGINT");
  return true;
}

/**
 * SIGKILL to the whole scope, or to the group. To the group after the Listener's end only while its Worker still
 * proves that the group is ours: the number may belong to another group by now.
 */
export async function killRunner(runner: ListenerProcess, scope: RunnerScope | undefined): Promise<void> {
  if (scope !== undefined) await killScope(scope, 2_000);
  if (runner.isAlive() || (await hasWorker(runner.pid)) === true) sendSignal(-runner.pid, "SIGKILL");
}

function sendSignal(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has just ended.
  }
}
