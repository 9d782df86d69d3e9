import { readFile, statfs } from "node:fs/promises";
import { arch, cpus, hostname, loadavg, platform, release, uptime } from "node:os";
import type { Part } from "./part.ts";
import { partOf } from "./part.ts";

/** Disk, memory and load, of this moment. */
export async function gatherMachine(paths: readonly string[]): Promise<Part[]> {
  const disks = await Promise.all([...new Set(paths)].map(diskOf));
  const [memory, pressure] = await Promise.all(["/proc/meminfo", "/proc/pressure/memory"].map(read));
  const { rss, heapUsed } = process.memoryUsage();
  const facts = {
    at: new Date().toISOString(),
    host: hostname(),
    os: `${platform()} ${release()} ${arch()}`,
    up_s: Math.round(uptime()),
    processors: cpus().length,
    load: loadavg(),
    disks,
    agent: { pid: process.pid, up_s: Math.round(process.uptime()), rss_bytes: rss, heap_bytes: heapUsed },
  };
  return [
    partOf("machine/facts.json", facts),
    { name: "machine/memory.txt", text: `${memory}${pressure}`, dropped: 0 },
  ];
}

async function diskOf(path: string): Promise<object> {
  try {
    const { bsize, blocks, bavail, files, ffree } = await statfs(path);
    return { path, bytes: bsize * blocks, free_bytes: bsize * bavail, inodes: files, free_inodes: ffree };
  } catch {
    return { path, problem: "it could not be measured" };
  }
}

const read = (path: string): Promise<string> => readFile(path, "latin1").catch(() => "");
