import { readFileSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";

/** What Linux says about a process. Processor times are in clock ticks. */
export interface ProcStat {
  ppid: number;
  pgrp: number;
  session: number;
  /** Z = ended, waiting to be reaped. */
  state: string;
  /** Clock ticks after boot: with the boot id, no other process ever has the same pid and start. */
  startTicks: number;
  cpuTicks: number;
  /** Of its ended children and of theirs, as far as they were waited for. */
  childrenTicks: number;
}

export interface Process {
  pid: number;
  stat: ProcStat;
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
  const [state, ppid, pgrp, session] = fields;
  const numberAt = (index: number): number => Number(fields[index]);
  const startTicks = numberAt(19);
  if (state === undefined || !Number.isFinite(startTicks)) return undefined;
  return {
    state,
    ppid: Number(ppid),
    pgrp: Number(pgrp),
    session: Number(session),
    startTicks,
    cpuTicks: numberAt(11) + numberAt(12),
    childrenTicks: numberAt(13) + numberAt(14),
  };
}

export const hasEnded = ({ state }: ProcStat): boolean => state === "Z" || state === "X";

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
  return stat !== undefined && stat.startTicks === startTicks && !hasEnded(stat);
}

/**
 * A running process of this program as an agent starts one: it leads its group, or run.sh does that it was started
 * by. So a runner is found whose agent died before it could write down the number.
 */
export async function findProgram(path: string): Promise<{ pid: number; startTicks: number } | undefined> {
  for (const { pid, stat } of (await allProcesses()) ?? []) {
    if (!(await programOf(pid).catch(() => [""])).includes(path)) continue;
    if (stat.pgrp === pid) return { pid, startTicks: stat.startTicks };
    const leader = await readProcStat(stat.pgrp);
    if (leader !== undefined && (await isProgram(stat.pgrp, scriptPattern)))
      return { pid: stat.pgrp, startTicks: leader.startTicks };
  }
  return undefined;
}

export const listenerPattern = /(?:^|\/)Runner\.Listener$/;
export const workerPattern = /(?:^|\/)Runner\.Worker$/;
export const scriptPattern = /(?:^|\/)run\.sh$/;

export async function isProgram(pid: number, pattern: RegExp): Promise<boolean> {
  return (await programOf(pid)).some((word) => pattern.test(word));
}

/**
 * The program, or the script that an interpreter runs; never an argument of a job's own process further back. What
 * stands in front of a Listener that is being started is looked behind.
 */
export async function programOf(pid: number): Promise<string[]> {
  const words = await argumentsOf(pid);
  const isInFront = words.slice(0, 2).some((word) => /(?:^|\/)(?:systemd-run|setpriv)$/.test(word));
  const behind = isInFront ? words.lastIndexOf("--") + 1 : 0;
  return words.slice(behind, behind + 3);
}

/** Nothing of a process that has ended; throws when nothing can be read, which is not the same. */
export async function argumentsOf(pid: number): Promise<string[]> {
  const line = await readFile(`/proc/${pid}/cmdline`, "latin1").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "EMFILE" || error.code === "ENFILE" || error.code === "EACCES") throw error;
    return "";
  });
  return line.split("\0");
}

/** Some 20 small files instead of a walk over all processes; undefined when the kernel or the process has none. */
export async function childrenOf(pid: number): Promise<number[] | undefined> {
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

/**
 * Undefined when not even this process is there: no /proc, or no descriptor left to read it with. Read without the
 * thread pool: these files are memory, and a fifth of the time is gone when nobody is asked to wait for them.
 */
export async function allProcesses(root = "/proc"): Promise<Process[] | undefined> {
  const found: Process[] = [];
  let seesItself = false;
  let looked = 0;
  for (const name of await readdir(root).catch(() => [])) {
    if (!/^\d+$/.test(name)) continue;
    const pid = Number(name);
    const text = readAtOnce(`/proc/${pid}/stat`);
    const stat = text === undefined ? undefined : parseProcStat(text);
    if (pid === process.pid && stat !== undefined) seesItself = true;
    if (stat !== undefined && stat.state !== "Z") found.push({ pid, stat });
    looked += 1;
    if (looked % 200 === 0) await new Promise(setImmediate);
  }
  return seesItself ? found : undefined;
}

/** Of a file in /proc; undefined when it is not there or not ours to read. */
export function readAtOnce(path: string): string | undefined {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return undefined;
  }
}
