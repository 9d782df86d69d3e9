import {
  allProcesses,
  childrenOf,
  isProgram,
  listenerPattern,
  readProcStat,
  scriptPattern,
  workerPattern,
} from "./proc.ts";

/** Between the process that was started and the Worker stand at most run.sh, its helper and the Listener. */
const between = [listenerPattern, scriptPattern, /(?:^|\/)run-helper\.sh$/];

/**
 * Whether a Runner.Worker runs of the runner whose first process this is: a child of its Listener, or after the
 * Listener's death a member of the group or session. One exists exactly while a job executes (runner-contract §4.7). Undefined
 * without /proc.
 */
export async function hasWorker(leaderPid: number): Promise<boolean | undefined> {
  if (process.platform !== "linux") return undefined;
  const pids = (await childrenOf(leaderPid)) ?? (await membersOf(leaderPid));
  return pids === undefined ? undefined : someWorker(pids, between.length).catch(() => undefined);
}

async function someWorker(pids: readonly number[], deep: number): Promise<boolean> {
  for (const pid of pids) {
    if (await isProgram(pid, workerPattern)) return true;
    if (deep > 0 && (await isBetween(pid)) && (await someWorker((await childrenOf(pid)) ?? [], deep - 1)))
      return true;
  }
  return false;
}

async function isBetween(pid: number): Promise<boolean> {
  for (const pattern of between) if (await isProgram(pid, pattern)) return true;
  return false;
}

/** The process to signal: the first one itself, or the Listener that run.sh has at this moment (trap 3). */
export async function findListenerOf(leaderPid: number): Promise<number | undefined> {
  if (process.platform !== "linux" || (await isProgram(leaderPid, listenerPattern))) return leaderPid;
  const below = await childrenOf(leaderPid);
  return below === undefined ? firstListener((await membersOf(leaderPid)) ?? [], 0) : firstListener(below, 2);
}

async function firstListener(pids: readonly number[], deep: number): Promise<number | undefined> {
  for (const pid of pids) {
    if ((await readProcStat(pid)) !== undefined && (await isProgram(pid, listenerPattern))) return pid;
    if (deep === 0 || !(await isBetween(pid))) continue;
    const below = await firstListener((await childrenOf(pid)) ?? [], deep - 1);
    if (below !== undefined) return below;
  }
  return undefined;
}

async function membersOf(pid: number): Promise<number[] | undefined> {
  return (await allProcesses())
    ?.filter(({ stat }) => stat.ppid === pid || stat.pgrp === pid || stat.session === pid)
    .map((one) => one.pid);
}
