import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { access } from "node:fs/promises";
import type { Log } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { type RunnerEnvironment, spawnUser } from "./environment.ts";
import { findTool } from "./find-tool.ts";
import { scopePrefix } from "./scope.ts";

/** One way to start the runner: programs that put themselves in front of it and become it. */
export interface Front {
  words: readonly string[];
  /** For spawn, where nothing in front changes the user. */
  user: { uid?: number; gid?: number };
  isScoped: boolean;
}

export interface FrontSettings {
  environment: RunnerEnvironment;
  scope: "auto" | "systemd" | "none";
  /** Is there when systemd runs this machine. */
  systemdPath: string;
  log: Log;
}

/** In the order in which they are tried; the last one needs nothing of the machine, unless a scope is demanded. */
export async function chooseFronts(settings: FrontSettings): Promise<Front[]> {
  const { environment, log } = settings;
  const setpriv = await chooseSetpriv(environment, log);
  const user = setpriv.length > 0 ? {} : spawnUser(environment);
  const plain: Front = { words: setpriv, user, isScoped: false };
  if (!(await wantsScope(settings))) return [plain];
  const systemdRun = await findTool("systemd-run", environment.host["PATH"]);
  const mayScope = systemdRun !== undefined && Object.keys(user).length === 0;
  // Who demands a scope has put the agent into a cgroup that no job may share.
  const mustScope = settings.scope === "systemd";
  if (!mayScope && mustScope)
    throw new MigError(
      "runner_start_failed",
      "The runner gets no scope: install systemd-run and setpriv, or set runner.scope to none.",
    );
  if (!mayScope) {
    log.warn({}, "The runner gets no scope of its own: systemd-run, or setpriv beside it, is missing.");
    return [plain];
  }
  const scoped = (more: readonly string[]): Front => ({
    words: [systemdRun, ...scopeArguments(), ...more, "--", ...setpriv],
    user: {},
    isScoped: true,
  });
  // From systemd 253 on a scope ends when one of its processes runs out of memory; the older ones know no such policy.
  return [scoped(["--property=OOMPolicy=continue"]), scoped([]), ...(mustScope ? [] : [plain])];
}

async function wantsScope({ scope, systemdPath }: FrontSettings): Promise<boolean> {
  if (scope !== "auto") return scope === "systemd";
  const isSystemd = await access(systemdPath).then(
    () => true,
    () => false,
  );
  return isSystemd && process.getuid?.() === 0;
}

/** Unlimited tasks, because systemd's default is 15 % of the machine's; accounting, because jobs are measured. */
function scopeArguments(): string[] {
  return [
    "--scope",
    "--collect",
    "--quiet",
    `--unit=${scopePrefix}${randomBytes(6).toString("hex")}`,
    "--slice=miglet-runner.slice",
    "--property=TasksMax=infinity",
    "--property=CPUAccounting=yes",
    "--property=MemoryAccounting=yes",
    "--property=IOAccounting=yes",
  ];
}

/**
 * setpriv gives the runner its user's supplementary groups, docker among them; spawn takes all groups away. Tried
 * once with a harmless program: BusyBox has another setpriv, and a user may be in no directory of users.
 */
async function chooseSetpriv({ user, host }: RunnerEnvironment, log: Log): Promise<string[]> {
  if (user === undefined || process.getuid?.() !== 0) return [];
  const setpriv = await findTool("setpriv", host["PATH"]);
  const nothing = await findTool("true", undefined);
  if (setpriv !== undefined && nothing !== undefined) {
    const words = [setpriv, `--reuid=${user.uid}`, `--regid=${user.gid}`, "--init-groups", "--"];
    if (await succeeds([...words, nothing])) return words;
  }
  log.warn(
    { user: user.name },
    "The runner gets its user but none of its groups: setpriv is missing or refuses.",
  );
  return [];
}

function succeeds([program = "", ...args]: readonly string[]): Promise<boolean> {
  return new Promise((resolve) => {
    execFile(program, args, { timeout: 5_000 }, (error) => resolve(error === null));
  });
}
