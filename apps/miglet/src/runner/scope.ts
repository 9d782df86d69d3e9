import { readdir, readFile, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { pause } from "@mig/kit";
import { type JobUsage, maybe } from "@mig/protocol";

/** The cgroup (v2) that a runner has for itself: the directory below the mount point. */
export type RunnerScope = string;

/** In the name of every scope that the agent asks for, and of nothing else: what is killed must be ours. */
export const scopePrefix = "miglet-runner-";

/** Undefined when the process is in no scope of ours. */
export async function findScope(pid: number): Promise<RunnerScope | undefined> {
  try {
    const path = /^0::(\/.*)$/m.exec(await readFile(`/proc/${pid}/cgroup`, "utf8"))?.[1];
    if (path === undefined || !isOurs(path)) return undefined;
    // "36 35 0:31 / /sys/fs/cgroup rw,… - cgroup2 cgroup2 rw"
    const mounts = (await readFile("/proc/self/mountinfo", "utf8")).split("\n");
    const mount = mounts.find((line) => line.includes(" - cgroup2 "))?.split(" ")[4];
    if (mount === undefined) return undefined;
    const scope = join(mount, path);
    await readFile(join(scope, "cgroup.procs"));
    return scope;
  } catch {
    return undefined;
  }
}

export function isOurs(path: string): boolean {
  return basename(path).startsWith(scopePrefix) && !path.split("/").includes("..");
}

/**
 * What all that ran in it has used so far. Without the controllers of memory and io only the processor time is
 * known: the kernel always counts that.
 */
export async function readScopeUsage(scope: RunnerScope): Promise<JobUsage | undefined> {
  const read = (name: string): Promise<string> => readFile(join(scope, name), "latin1").catch(() => "");
  const usageUs = /^usage_usec (\d+)$/m.exec(await read("cpu.stat"))?.[1];
  if (usageUs === undefined) return undefined;
  const peak = Number.parseInt(await read("memory.peak"), 10);
  const io = [...(await read("io.stat")).matchAll(/ wbytes=(\d+)/g)];
  return {
    cpuSeconds: Number(usageUs) / 1e6,
    ...maybe("peakMemoryBytes", Number.isFinite(peak) ? peak : undefined),
    ...maybe("diskWrittenBytes", io.length === 0 ? undefined : io.reduce((sum, [, n]) => sum + Number(n), 0)),
  };
}

/**
 * SIGKILL to everything in the scope and below it, whatever left its group and session; answers how many processes
 * there were. Nothing when the scope is gone: systemd removes one that is empty.
 */
export async function killScope(scope: RunnerScope, withinMs: number): Promise<number> {
  if (!isOurs(scope)) return 0;
  const count = (await membersOf(scope)).length;
  if (count === 0) return 0;
  const untilMs = performance.now() + withinMs;
  do {
    await writeFile(join(scope, "cgroup.kill"), "1").catch(() => killEach(scope));
    await pause(10);
  } while ((await membersOf(scope)).length > 0 && performance.now() < untilMs);
  return count;
}

/** Kernels before 5.14 have no cgroup.kill. */
async function killEach(scope: RunnerScope): Promise<void> {
  for (const pid of await membersOf(scope)) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It has just ended.
    }
  }
}

async function membersOf(scope: RunnerScope): Promise<number[]> {
  const own = await readFile(join(scope, "cgroup.procs"), "latin1").catch(() => "");
  const pids = own.split("\n").filter(Boolean).map(Number);
  for (const entry of await readdir(scope, { withFileTypes: true }).catch(() => []))
    if (entry.isDirectory()) pids.push(...(await membersOf(join(scope, entry.name))));
  return pids;
}
