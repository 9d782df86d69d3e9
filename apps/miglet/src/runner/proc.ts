import { readdir, readFile } from "node:fs/promises";

/** What Linux says about a process. */
export interface ProcStat {
  ppid: number;
  pgrp: number;
  /** Z = ended, waiting to be reaped. */
  state: string;
  /** Clock ticks after boot: with the boot id, no other process ever has the same pid and start. */
  startTicks: number;
}

/** Undefined when there is no such process, or no /proc. */
export async function readProcStat(pid: number): Promise<ProcStat | undefined> {
  try {
    return parseProcStat(await readFile(`/proc/${pid}/stat`, "latin1"));
  } catch {
    return undefined;
  }
}

/** The name in parentheses may hold blanks and parentheses, so the fields are counted from the last one. */
export function parseProcStat(text: string): ProcStat | undefined {
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const [state, ppid, pgrp] = fields;
  const startTicks = Number(fields[19]);
  if (state === undefined || !Number.isFinite(startTicks)) return undefined;
  return { state, ppid: Number(ppid), pgrp: Number(pgrp), startTicks };
}

/** The process of exactly this start runs. Off Linux the pid alone must do. */
export async function isRunning(pid: number, startTicks: number | undefined): Promise<boolean> {
  if (startTicks === undefined) {
    try {
      process.kill(pid, 0);
      return true;
    } catch {
      return false;
    }
  }
  const stat = await readProcStat(pid);
  return stat !== undefined && stat.startTicks === startTicks && stat.state !== "Z" && stat.state !== "X";
}

/**
 * Whether a Runner.Worker of this Listener runs: a child of it, or after its death a member of the process group
 * that it led. One exists exactly while a job executes (runner-contract §4.7). Undefined without /proc.
 */
export async function hasWorker(listenerPid: number): Promise<boolean | undefined> {
  if (process.platform !== "linux") return undefined;
  const pids = (await childrenOf(listenerPid)) ?? (await membersOf(listenerPid));
  if (pids === undefined) return undefined;
  for (const pid of pids)
    if ((await programOf(pid)).some((word) => /(?:^|\/)Runner\.Worker$/.test(word))) return true;
  return false;
}

/**
 * A running process of this program that leads its group, as a Listener does: one that an agent started and died
 * before it could write down the number.
 */
export async function findProgram(path: string): Promise<{ pid: number; startTicks: number } | undefined> {
  for (const { pid, stat } of (await allProcesses()) ?? [])
    if (stat.pgrp === pid && (await programOf(pid)).includes(path))
      return { pid, startTicks: stat.startTicks };
  return undefined;
}

/** The program, or the script that an interpreter runs; never an argument of a job's own process further back. */
async function programOf(pid: number): Promise<string[]> {
  const line = await readFile(`/proc/${pid}/cmdline`, "latin1").catch(() => "");
  return line.split("\0").slice(0, 3);
}

/** Some 20 small files instead of a walk over all processes; undefined when the kernel or the process has none. */
async function childrenOf(pid: number): Promise<number[] | undefined> {
  const children: number[] = [];
  try {
    for (const thread of await readdir(`/proc/${pid}/task`)) {
      const text = await readFile(`/proc/${pid}/task/${thread}/children`, "latin1").catch(
        (error: unknown) => {
          if (thread === String(pid)) throw error;
          return ""; // That thread has just ended.
        },
      );
      children.push(
        ...text
          .split(" ")
          .filter((word) => word !== "")
          .map(Number),
      );
    }
    return children;
  } catch {
    return undefined;
  }
}

async function membersOf(pid: number): Promise<number[] | undefined> {
  return (await allProcesses())
    ?.filter(({ stat }) => stat.ppid === pid || stat.pgrp === pid)
    .map((one) => one.pid);
}

/** Undefined when not even this process is there: no /proc, or no descriptor left to read it with. */
export async function allProcesses(root = "/proc"): Promise<{ pid: number; stat: ProcStat }[] | undefined> {
  const found: { pid: number; stat: ProcStat }[] = [];
  let seesItself = false;
  for (const name of await readdir(root).catch(() => [])) {
    if (!/^\d+$/.test(name)) continue;
    const pid = Number(name);
    const stat = await readProcStat(pid);
    if (pid === process.pid && stat !== undefined) seesItself = true;
    if (stat !== undefined && stat.state !== "Z") found.push({ pid, stat });
  }
  return seesItself ? found : undefined;
}
