import { readdirSync, readFileSync } from "node:fs";

/** Process ids that exist now; empty where there is no `/proc`. */
export function listProcesses(): ReadonlySet<number> {
  try {
    return new Set(readdirSync("/proc").map(Number).filter(Number.isInteger));
  } catch {
    return new Set();
  }
}

/**
 * Kills every process that is new since `known` and whose environment has exactly this tracking id
 * (runner-contract §6.6); answers what was killed.
 */
export function killOrphans(trackingId: string, known: ReadonlySet<number>): readonly number[] {
  const killed: number[] = [];
  for (const pid of listProcesses()) {
    if (known.has(pid) || pid === process.pid) continue;
    try {
      const environment = readFileSync(`/proc/${pid}/environ`, "utf8").split("\0");
      if (!environment.includes(`RUNNER_TRACKING_ID=${trackingId}`)) continue;
      process.kill(pid, "SIGKILL");
      killed.push(pid);
    } catch {
      // Gone in the meantime, or somebody else's: not ours to kill.
    }
  }
  return killed;
}
