import { type ChildProcess, spawn } from "node:child_process";
import { open, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { type Log, pause } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { buildEnvironment, type RunnerEnvironment } from "./environment.ts";
import type { InstalledRunner } from "./installed-runner.ts";
import { chooseFronts, type Front } from "./launch-words.ts";
import { argumentsOf, readProcStat } from "./proc.ts";
import type { ListenerProcess, ProcessEnd } from "./process.ts";
import { findScope, type RunnerScope } from "./scope.ts";

export interface LaunchSettings {
  installed: InstalledRunner;
  environment: RunnerEnvironment;
  /** Hooks, the JIT config: never in argv. */
  variables: Readonly<Record<string, string>>;
  outputPath: string;
  launcher: "listener" | "run.sh";
  scope: "auto" | "systemd" | "none";
  systemdPath: string;
  log: Log;
}

export interface Launched {
  process: ListenerProcess;
  scope: RunnerScope | undefined;
}

/**
 * Starts `bin/Runner.Listener run` itself instead of run.sh, whose exit code says nothing and whose pid is not the
 * one to signal (runner-contract §3.3, §3.9); the script only where the operator wants it. Its own process group and
 * session, no terminal, output to a file: so it lives on when the agent ends. What stands in front of it replaces
 * itself by it, so the number stays the same.
 */
export async function launchListener(settings: LaunchSettings): Promise<Launched> {
  const { log } = settings;
  const fronts = await chooseFronts(settings);
  for (const front of fronts) {
    const process = await launchBehind(front, settings);
    if (process === undefined) continue;
    const scope = front.isScoped ? await findScope(process.pid) : undefined;
    if (front.isScoped && scope === undefined)
      log.warn({}, "systemd-run has started the runner, but its scope cannot be found below /sys/fs/cgroup.");
    if (!front.isScoped && fronts.some(({ isScoped }) => isScoped))
      log.warn({}, "The runner runs without a scope of its own: what a job leaves behind may escape.");
    await spareFromOom(process.pid);
    return { process, scope };
  }
  throw new MigError("runner_start_failed", "There is no way to start the runner.");
}

/** Undefined when the program in front has failed: then the runner itself was not started. */
async function launchBehind(
  { words, user, isScoped }: Front,
  { installed, environment, variables, outputPath, launcher, log }: LaunchSettings,
): Promise<ListenerProcess | undefined> {
  const runner = launcher === "run.sh" ? [join(installed.dir, "run.sh")] : [installed.listener, "run"];
  const [program = "", ...args] = [...words, ...runner];
  const output = await open(outputPath, "a", 0o600);
  try {
    const child = spawn(program, args, {
      cwd: installed.dir,
      env: buildEnvironment(environment, variables),
      stdio: ["ignore", output.fd, output.fd],
      detached: true,
      ...user,
    });
    const launched = await watchChild(child, program);
    if (!isScoped) return launched;
    if (await becomesRunner(launched)) return launched;
    log.debug({ program }, "The runner could not be started in a scope in this way.");
    return undefined;
  } finally {
    await output.close();
  }
}

async function watchChild(child: ChildProcess, program: string): Promise<ListenerProcess> {
  const { pid } = child;
  let isAlive = true;
  const ended = new Promise<ProcessEnd>((resolve) => {
    child.once("exit", (code, signal) => {
      isAlive = false;
      resolve({ code: code ?? undefined, signal: signal ?? undefined });
    });
  });
  await new Promise<void>((resolve, reject) => {
    child.once("spawn", resolve);
    child.once("error", reject);
  }).catch((cause: unknown) => {
    throw new MigError("runner_start_failed", `${program} could not be started.`, { cause });
  });
  if (pid === undefined) throw new MigError("runner_start_failed", `${program} has no pid.`);
  child.unref();
  const stat = await readProcStat(pid);
  return { pid, startTicks: stat?.startTicks, ended, isAlive: () => isAlive };
}

/** systemd-run asks systemd for the scope and then executes what stands behind it; when it is refused it ends. */
async function becomesRunner(launched: ListenerProcess): Promise<boolean> {
  const untilMs = performance.now() + scopeMs;
  while (launched.isAlive()) {
    const words = await argumentsOf(launched.pid);
    if (words[0] !== "" && !words.slice(0, 2).some((word) => basename(word) === "systemd-run")) return true;
    if (performance.now() >= untilMs) {
      process.kill(-launched.pid, "SIGKILL");
      await launched.ended;
      return false;
    }
    await pause(5);
  }
  return false;
}

const scopeMs = 10_000;

/** When memory runs out the job's steps go first, then the Listener, then the agent (runner-contract trap 47). */
async function spareFromOom(pid: number): Promise<void> {
  await writeFile(`/proc/${pid}/oom_score_adj`, "-500").catch(() => {
    // Only root may lower it.
  });
}
