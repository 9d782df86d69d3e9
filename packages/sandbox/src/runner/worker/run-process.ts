import { spawn } from "node:child_process";
import type { Writable } from "node:stream";
import type { Installation } from "../installation.ts";

/** How the real Worker ends a step: to the direct child only, never to its tree (runner-contract §3.6). */
const interruptSeconds = 7.5;
const terminateSeconds = 2.5;
const outputGraceSeconds = 5;

export interface ProcessRun {
  readonly command: string;
  readonly args: readonly string[];
  readonly folder: string;
  readonly environment: NodeJS.ProcessEnv;
  readonly output: Writable;
  /** Ends the process when aborted. */
  readonly stop: AbortSignal;
  readonly started?: () => void;
}

/** Runs one step or hook and answers its exit code, 128 + n for a signal. */
export async function runProcess(installation: Installation, run: ProcessRun): Promise<number> {
  const child = spawn(run.command, [...run.args], {
    cwd: run.folder,
    env: run.environment,
    stdio: ["ignore", "pipe", "pipe"],
  });
  child.stdout.pipe(run.output, { end: false });
  child.stderr.pipe(run.output, { end: false });
  child.once("spawn", () => run.started?.());
  const closed = new Promise<void>((resolve) => child.once("close", () => resolve()));
  const ended = new AbortController();
  const exited = new Promise<number>((resolve) => {
    child.once("error", () => resolve(127));
    child.once("exit", (code, signal) => resolve(code ?? (signal === "SIGKILL" ? 137 : 143)));
  });
  const interrupt = async () => {
    child.kill("SIGINT");
    await installation.wait(interruptSeconds, ended.signal);
    if (ended.signal.aborted) return;
    child.kill("SIGTERM");
    await installation.wait(terminateSeconds, ended.signal);
    if (!ended.signal.aborted) child.kill("SIGKILL");
  };
  const onStop = () => void interrupt();
  if (run.stop.aborted) onStop();
  else run.stop.addEventListener("abort", onStop, { once: true });
  const code = await exited;
  ended.abort();
  run.stop.removeEventListener("abort", onStop);
  // A child that was left behind may hold the output open: 5 s, then it is let go.
  const grace = new AbortController();
  await Promise.race([closed, installation.wait(outputGraceSeconds, grace.signal)]);
  grace.abort();
  child.stdout.destroy();
  child.stderr.destroy();
  return code;
}
