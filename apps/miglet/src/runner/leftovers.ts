import { pause } from "@mig/kit";
import { allProcesses, type Process, readProcStat } from "./proc.ts";
import { killScope, type RunnerScope } from "./scope.ts";

export interface EndedRunner {
  /** Of its first process, which led a session and a group of its own. */
  pid: number;
  startTicks: number | undefined;
  scope: RunnerScope | undefined;
}

/**
 * Ends what a job left behind when its runner is gone, and answers how many processes that were. The runner looks
 * for them itself, but not after a crash and not for those without its tracking id (runner-contract §6.6). With a
 * scope nothing escapes; without one, what made a session of its own does.
 */
export async function endLeftovers(ended: EndedRunner): Promise<number> {
  if (ended.scope !== undefined) return killScope(ended.scope, scopeMs);
  // Twice: a process that forks while it is looked at is seen the second time.
  const killed = new Set<number>();
  for (let round = 0; round < 2; round += 1) {
    for (const { pid } of await membersOf(ended)) if (kill(pid)) killed.add(pid);
    if (killed.size === 0) break;
    await pause(20);
  }
  return killed.size;
}

const scopeMs = 2_000;

/**
 * The kernel gives no new process a number that is still the id of a session or a group. But once nobody is left, the
 * number may come again: so nothing is ended when its leader lives, nor what is older than the runner.
 */
async function membersOf({ pid: leaderPid, startTicks }: EndedRunner): Promise<Process[]> {
  if (startTicks === undefined || leaderPid < 2) return [];
  if ((await readProcStat(leaderPid)) !== undefined) return [];
  const all = (await allProcesses()) ?? [];
  return all.filter(
    ({ pid, stat }) =>
      (stat.session === leaderPid || stat.pgrp === leaderPid) &&
      stat.startTicks >= startTicks &&
      pid !== process.pid,
  );
}

function kill(pid: number): boolean {
  try {
    process.kill(pid, "SIGKILL");
    return true;
  } catch {
    return false; // It has just ended.
  }
}
