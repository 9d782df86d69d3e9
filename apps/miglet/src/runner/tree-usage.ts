import { readFile } from "node:fs/promises";
import type { JobUsage } from "@mig/protocol";
import { allProcesses, hasEnded, type Process, readAtOnce } from "./proc.ts";

/** Of one process at one look. `ticks` includes its ended children, as far as it has waited for them. */
interface Counted {
  startTicks: number;
  ticks: number;
  writtenBytes: number;
  /** Its parent is outside the tree: what it used is in nobody's figures when it ends. */
  isAdopted: boolean;
}

export interface TreeMeter {
  /** What the Listener's ended children have used before the job is not the job's. */
  begin(listenerPid: number): Promise<void>;
  sample(listenerPid: number): Promise<void>;
  usage(): JobUsage | undefined;
}

/**
 * What a job's processes use, where they have no cgroup of their own: everything below the Listener, looked at now
 * and then. A process that ends between two looks is in its parent's figures, up to the Listener; memory is the
 * largest sum seen, shared pages counted for each.
 */
export function createTreeMeter(processesMax: number): TreeMeter {
  let listenerBefore: number | undefined;
  let known = new Map<number, Counted>();
  let [lostTicks, lostBytes] = [0, 0];
  let [ticks, writtenBytes, peakBytes] = [0, 0, 0];
  let hasSeen = false;
  let machine: Machine | undefined;

  const count = (pid: number, was: Counted): void => {
    if (!was.isAdopted) return;
    lostTicks += was.ticks;
    lostBytes += was.writtenBytes;
    known.delete(pid);
  };

  return {
    async begin(listenerPid) {
      const listener = (await allProcesses())?.find(({ pid }) => pid === listenerPid);
      listenerBefore = listener?.stat.childrenTicks ?? listenerBefore;
    },
    async sample(listenerPid) {
      const all = await allProcesses();
      if (all === undefined || all.length > processesMax) return;
      machine ??= await readMachine();
      const listener = all.find(({ pid }) => pid === listenerPid);
      const below = treeOf(all, listenerPid, known);
      const next = new Map<number, Counted>();
      let memoryBytes = 0;
      for (const { pid, stat } of below) {
        const [residentPages, bytes] = [readResident(pid), readWritten(pid)];
        const isAdopted = stat.ppid !== listenerPid && !below.some((other) => other.pid === stat.ppid);
        next.set(pid, {
          startTicks: stat.startTicks,
          ticks: stat.cpuTicks + stat.childrenTicks,
          writtenBytes: bytes ?? known.get(pid)?.writtenBytes ?? 0,
          isAdopted,
        });
        memoryBytes += residentPages * machine.pageBytes;
      }
      for (const [pid, was] of known) if (!next.has(pid)) count(pid, was);
      known = next;
      if (next.size > 0) hasSeen = true;
      listenerBefore ??= listener?.stat.childrenTicks;
      const waitedFor = listener === undefined ? 0 : listener.stat.childrenTicks - (listenerBefore ?? 0);
      const living = [...next.values()];
      const sum = (of: (one: Counted) => number): number => living.reduce((all, one) => all + of(one), 0);
      ticks = Math.max(ticks, waitedFor + lostTicks + sum((one) => one.ticks));
      writtenBytes = Math.max(writtenBytes, lostBytes + sum((one) => one.writtenBytes));
      peakBytes = Math.max(peakBytes, memoryBytes);
    },
    usage: () =>
      hasSeen && machine !== undefined
        ? {
            cpuSeconds: ticks / machine.ticksPerSecond,
            peakMemoryBytes: peakBytes,
            diskWrittenBytes: writtenBytes,
          }
        : undefined,
  };
}

/** Descendants, and what was one before its parent ended. */
function treeOf(
  all: readonly Process[],
  rootPid: number,
  known: ReadonlyMap<number, { startTicks: number }>,
): Process[] {
  const children = new Map<number, Process[]>();
  for (const one of all) {
    const siblings = children.get(one.stat.ppid);
    if (siblings === undefined) children.set(one.stat.ppid, [one]);
    else siblings.push(one);
  }
  const found = new Map<number, Process>();
  const visit = (one: Process): void => {
    if (found.has(one.pid) || hasEnded(one.stat)) return;
    found.set(one.pid, one);
    for (const child of children.get(one.pid) ?? []) visit(child);
  };
  for (const child of children.get(rootPid) ?? []) visit(child);
  for (const one of all) if (known.get(one.pid)?.startTicks === one.stat.startTicks) visit(one);
  return [...found.values()];
}

function readResident(pid: number): number {
  return Number(readAtOnce(`/proc/${pid}/statm`)?.split(" ")[1] ?? 0);
}

/** Only root and the process's own user may read it. */
function readWritten(pid: number): number | undefined {
  const bytes = /^write_bytes: (\d+)$/m.exec(readAtOnce(`/proc/${pid}/io`) ?? "")?.[1];
  return bytes === undefined ? undefined : Number(bytes);
}

interface Machine {
  pageBytes: number;
  ticksPerSecond: number;
}

/** From the auxiliary vector: pairs of words, AT_PAGESZ = 6 and AT_CLKTCK = 17. */
async function readMachine(): Promise<Machine> {
  const vector = await readFile("/proc/self/auxv").catch(() => Buffer.alloc(0));
  const entryOf = (type: bigint): number | undefined => {
    for (let at = 0; at + 16 <= vector.length; at += 16)
      if (vector.readBigUInt64LE(at) === type) return Number(vector.readBigUInt64LE(at + 8));
    return undefined;
  };
  return { pageBytes: entryOf(6n) ?? 4096, ticksPerSecond: entryOf(17n) ?? 100 };
}
