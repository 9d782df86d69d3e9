import { readlink, realpath } from "node:fs/promises";
import { join } from "node:path";
import { pause } from "@mig/kit";
import { allProcesses, argumentsOf, isRunning, type Process } from "./proc.ts";

/**
 * Ends a config.sh, and the Listener that it called, which an agent that was killed has left behind in this runner's
 * directory: it would register while the next one does, under the same name, and write `.runner` over its own. Only
 * one registration is ever under way here, so whatever is found is nobody's. Answers how many processes were ended.
 */
export async function endOrphanedConfig(dir: string, withinMs = 5_000): Promise<number> {
  const ended: Process[] = [];
  const untilMs = performance.now() + withinMs;
  for (;;) {
    const found = await findConfigs(dir);
    for (const one of found) {
      if (!ended.some(({ pid }) => pid === one.pid)) ended.push(one);
      // The whole group where it leads one, as every config.sh of ours does: its Listener is in it.
      kill(one.stat.pgrp === one.pid ? -one.pid : one.pid);
    }
    const living = await Promise.all(ended.map(({ pid, stat }) => isRunning(pid, stat.startTicks)));
    if (found.length === 0 && !living.includes(true)) return ended.length;
    if (performance.now() >= untilMs) return ended.length;
    await pause(20);
  }
}

/** By directory and by name: `config.sh …`, or `bin/Runner.Listener configure …`. */
async function findConfigs(dir: string): Promise<Process[]> {
  const home = await realpath(dir).catch(() => dir);
  const found: Process[] = [];
  for (const one of (await allProcesses()) ?? []) {
    const words = (await argumentsOf(one.pid).catch(() => [""])).slice(0, 4);
    const isScript = words.slice(0, 3).some((word) => /(?:^|\/)config\.sh$/.test(word));
    const listenerAt = words.slice(0, 3).findLastIndex((word) => /(?:^|\/)Runner\.Listener$/.test(word));
    const isListener = listenerAt >= 0 && /^(?:configure|remove)$/.test(words[listenerAt + 1] ?? "");
    if (!isScript && !isListener) continue;
    const folder = await readlink(`/proc/${one.pid}/cwd`).catch(() => "");
    const isHere = folder === home || words.includes(join(dir, "config.sh"));
    if (isHere && one.pid !== process.pid) found.push(one);
  }
  return found;
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has just ended, or is another user's: then it is not ours either.
  }
}
