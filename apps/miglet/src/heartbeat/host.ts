import { readFile, statfs } from "node:fs/promises";
import { cpus, freemem, loadavg, totalmem } from "node:os";
import type { VmHealth } from "@mig/protocol";

interface CpuTimes {
  busy: number;
  total: number;
}

export interface MeterSettings {
  diskPath: string;
  includeDisk: boolean;
  includeNetwork: boolean;
}

/** Measures the machine; CPU is the share since the call before (the first call: since now, so 0). */
export function createHostMeter(settings: MeterSettings): () => Promise<VmHealth> {
  const { diskPath, includeDisk, includeNetwork } = settings;
  let before: CpuTimes | undefined;
  return async () => {
    const now = (await readCpuTimes()) ?? cpuTimesOfNode();
    const total = now.total - (before?.total ?? now.total);
    const busy = now.busy - (before?.busy ?? now.busy);
    before = now;
    const [memory, disk, network] = await Promise.all([
      readMemory(),
      includeDisk ? readDisk(diskPath) : noDisk,
      includeNetwork ? readNetwork() : {},
    ]);
    return {
      cpuUsagePercent: total <= 0 ? 0 : Math.min(100, Math.max(0, Math.round((1000 * busy) / total) / 10)),
      cpuLoad: loadavg()[0] ?? 0,
      ...memory,
      ...disk,
      ...network,
    };
  };
}

const noDisk = { diskTotalBytes: 0, diskUsedBytes: 0 };

async function readNetwork(): Promise<Pick<VmHealth, "networkReceivedBytes" | "networkSentBytes">> {
  return parseNetwork(await readFile("/proc/net/dev", "latin1").catch(() => ""));
}

/** One line an interface: eight figures of what came, then eight of what went. */
export function parseNetwork(dev: string): Pick<VmHealth, "networkReceivedBytes" | "networkSentBytes"> {
  const lines = [...dev.matchAll(/^\s*([^\s:]+):\s*(.+)$/gm)].filter(([, name]) => name !== "lo");
  if (lines.length === 0) return {};
  let [networkReceivedBytes, networkSentBytes] = [0, 0];
  for (const [, , rest = ""] of lines) {
    const figures = rest.trim().split(/\s+/).map(Number);
    networkReceivedBytes += figures[0] ?? 0;
    networkSentBytes += figures[8] ?? 0;
  }
  return { networkReceivedBytes, networkSentBytes };
}

async function readCpuTimes(): Promise<CpuTimes | undefined> {
  try {
    return parseCpuTimes(await readFile("/proc/stat", "latin1"));
  } catch {
    return undefined;
  }
}

/** user nice system idle iowait irq softirq steal; guest times are part of user already. */
export function parseCpuTimes(stat: string): CpuTimes | undefined {
  const line = /^cpu +(.*)$/m.exec(stat)?.[1];
  if (line === undefined) return undefined;
  const times = line.trim().split(/ +/).slice(0, 8).map(Number);
  const total = times.reduce((sum, time) => sum + time, 0);
  return { total, busy: total - (times[3] ?? 0) - (times[4] ?? 0) };
}

function cpuTimesOfNode(): CpuTimes {
  let busy = 0;
  let total = 0;
  for (const { times } of cpus()) {
    const sum = times.user + times.nice + times.sys + times.irq;
    busy += sum;
    total += sum + times.idle;
  }
  return { busy, total };
}

async function readMemory(): Promise<Pick<VmHealth, "memoryUsedBytes" | "memoryTotalBytes">> {
  const text = await readFile("/proc/meminfo", "latin1").catch(() => "");
  const total = kilobytesOf(text, "MemTotal") ?? totalmem();
  // Free memory would count every cached file as used.
  const available = kilobytesOf(text, "MemAvailable") ?? freemem();
  return { memoryTotalBytes: total, memoryUsedBytes: Math.max(0, total - available) };
}

export function kilobytesOf(meminfo: string, name: string): number | undefined {
  const found = new RegExp(`^${name}: +(\\d+) kB$`, "m").exec(meminfo)?.[1];
  return found === undefined ? undefined : Number(found) * 1024;
}

async function readDisk(path: string): Promise<Pick<VmHealth, "diskUsedBytes" | "diskTotalBytes">> {
  try {
    const { bsize, blocks, bavail } = await statfs(path);
    return { diskTotalBytes: bsize * blocks, diskUsedBytes: bsize * (blocks - bavail) };
  } catch {
    return noDisk;
  }
}
