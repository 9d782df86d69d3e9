import { access, rm } from "node:fs/promises";
import { join } from "node:path";
import { type Clock, pause } from "@mig/kit";
import type { RunnerTiming } from "./supervised-runner.ts";

/** Waits as run.sh does before it starts a Listener again; false when it must not be: too often, or given up. */
export type Relauncher = (dir: string, exitCode: number | undefined, signal: AbortSignal) => Promise<boolean>;

/** run.sh relaunches for ever (runner-contract trap 2); here so often in a window, and then it is a crash. */
export function createRelauncher(timing: RunnerTiming, clock: Clock): Relauncher {
  let startedAtMs: number[] = [];
  return async (dir, exitCode, signal) => {
    const nowMs = clock.monotonicMs();
    startedAtMs = startedAtMs.filter((atMs) => nowMs - atMs < timing.relaunchWindowMs);
    if (startedAtMs.length >= timing.relaunchesMax) return false;
    startedAtMs.push(nowMs);
    if (exitCode === 2) await pause(timing.relaunchMs, signal);
    else await whenUpdated(dir, timing, clock, signal);
    return !signal.aborted;
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
