import { access, rm } from "node:fs/promises";
import { join } from "node:path";
import { type Clock, pause } from "@mig/kit";
import type { RunnerTiming } from "./supervised-runner.ts";

/** run.sh relaunches for ever (runner-contract trap 2); here so often in a window, and then it is a crash. */
export interface Relauncher {
  /** Counts one more; false when there were too many. */
  mayAgain(): boolean;
  count(): number;
  /** Waits as run.sh does; false when it was given up. */
  wait(dir: string, exitCode: number | undefined, signal: AbortSignal): Promise<boolean>;
}

/** `before`: of a process before this one, which died while it waited. */
export function createRelauncher(timing: RunnerTiming, clock: Clock, before = 0): Relauncher {
  let startedAtMs: number[] = Array.from({ length: before }, () => clock.monotonicMs());
  return {
    mayAgain() {
      const nowMs = clock.monotonicMs();
      startedAtMs = startedAtMs.filter((atMs) => nowMs - atMs < timing.relaunchWindowMs);
      if (startedAtMs.length >= timing.relaunchesMax) return false;
      startedAtMs.push(nowMs);
      return true;
    },
    count: () => startedAtMs.length,
    async wait(dir, exitCode, signal) {
      if (exitCode === 2) await pause(timing.relaunchMs, signal);
      else await whenUpdated(dir, timing, clock, signal);
      return !signal.aborted;
    },
  };
}

/** The update script writes the file into the working directory of the Listener when the new version is in place. */
async function whenUpdated(
  dir: string,
  timing: RunnerTiming,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  const path = join(dir, "update.finished");
  const untilMs = clock.monotonicMs() + timing.updateMs;
  while (!signal.aborted && clock.monotonicMs() < untilMs) {
    const isThere = await access(path).then(
      () => true,
      () => false,
    );
    if (isThere) return rm(path, { force: true });
    await pause(Math.min(timing.watchMs, timing.updateMs / 10), signal);
  }
}
