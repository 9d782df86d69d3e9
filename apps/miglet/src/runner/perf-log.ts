import { chmod, mkdir, open, truncate } from "node:fs/promises";
import { join } from "node:path";

/** Where RUNNER_PERFLOG points to, and the one file in it that is read (runner-contract §4.7). */
export interface PerfLog {
  dir: string;
  path: string;
}

export function perfLogIn(stateDir: string): PerfLog {
  const dir = join(stateDir, "runner", "perf");
  return { dir, path: join(dir, "Runner.perf") };
}

/**
 * Makes the file of the Listener's counters, empty: the agent's own, to which the runner may append. The Worker's
 * counters have no file and no permission to make one; the runner ignores that. A job has the runner's user and the
 * variable, so it may write here too: a latch, never the truth.
 */
export async function makePerfLog(log: PerfLog, isOtherUser: boolean): Promise<void> {
  await mkdir(log.dir, { recursive: true, mode: 0o755 });
  await (await open(log.path, "a", 0o600)).close();
  await truncate(log.path);
  await chmod(log.dir, 0o755);
  await chmod(log.path, isOtherUser ? 0o622 : 0o600);
}

/** `Counter:2026-08-17T14:15:44.1234567Z`; a colon inside the counter has been replaced. */
export function readCounter(line: string): string | undefined {
  const end = line.indexOf(":");
  return end > 0 ? line.slice(0, Math.min(end, 200)) : undefined;
}
