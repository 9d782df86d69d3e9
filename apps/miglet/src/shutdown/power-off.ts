import { spawn } from "node:child_process";
import type { Log } from "@mig/kit";

/** Runs the configured command (words, no shell) and lets it outlive the agent. An empty one does nothing. */
export async function powerOff(command: readonly string[], log: Log): Promise<void> {
  const [program, ...args] = command;
  if (program === undefined) return;
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
