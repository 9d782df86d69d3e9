import { spawn } from "node:child_process";
import type { Log } from "@mig/kit";
import { findProgram } from "../runner/proc.ts";

export interface PowerOffSettings {
  log: Log;
  /** A program that must not be running: an agent whose state directory was lost must not end another's job. */
  unless?: string;
}

/** Runs the configured command (words, no shell) and lets it outlive the agent. An empty one does nothing. */
export async function powerOff(command: readonly string[], { log, unless }: PowerOffSettings): Promise<void> {
  const [program, ...args] = command;
  if (program === undefined) return;
  const running = unless === undefined ? undefined : await findProgram(unless);
  if (running !== undefined) {
    log.error(
      { pid: running.pid },
      "The machine is not powered off: a runner works here that this agent knows nothing of.",
    );
    return;
  }
  log.info({ command: command.join(" ") }, "The machine is powered off by the configured command.");
  await new Promise<void>((resolve) => {
    const child = spawn(program, args, { stdio: "ignore", detached: true });
    child.once("spawn", () => {
      child.unref();
      resolve();
    });
    child.once("error", (error) => {
      log.error({ error, command: program }, "The power-off command could not be started.");
      resolve();
    });
  });
}
