import { constants } from "node:fs";
import { access, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { MigError } from "@mig/lifecycle";
import { asObject } from "@mig/protocol";

export interface InstalledRunner {
  dir: string;
  listener: string;
  configScript: string;
  /** `.runner` or `.runner_migrated` is there. */
  configured: boolean;
}

/**
 * Looks whether a runner is installed in `dir` and free to be used. `ours`: our own live runner uses it. Throws
 * MigError `runner_not_installed`, saying what is wrong and what to do. Nothing is ever deleted here: the
 * predecessor removed live runners (go-agent-wire A13).
 */
export async function inspectRunner(dir: string, ours: boolean): Promise<InstalledRunner> {
  const installed: InstalledRunner = {
    dir,
    listener: join(dir, "bin", "Runner.Listener"),
    configScript: join(dir, "config.sh"),
    configured: await isConfigured(dir),
  };
  for (const program of [installed.listener, installed.configScript]) {
    try {
      await access(program, constants.X_OK);
    } catch (cause) {
      const what = (cause as NodeJS.ErrnoException).code === "EACCES" ? "is not executable" : "is missing";
      throw new MigError(
        "runner_not_installed",
        `${program} ${what}: install actions/runner into ${dir} or set the runner directory.`,
        { cause },
      );
    }
  }
  if (installed.configured && !ours)
    throw new MigError(
      "runner_not_installed",
      `${dir} holds the registration of another runner (.runner): remove it with config.sh remove, or use an unconfigured image.`,
    );
  return installed;
}

export async function isConfigured(dir: string): Promise<boolean> {
  for (const name of [".runner", ".runner_migrated"]) {
    if (
      await stat(join(dir, name)).then(
        () => true,
        () => false,
      )
    )
      return true;
  }
  return false;
}

export interface RunnerFile {
  name?: string;
  id?: number;
  ephemeral: boolean;
}

/**
 * What `.runner` says. Two writers, two styles (runner-contract §1.4): config.sh writes a BOM and camelCase, a JIT
 * config has PascalCase, numbers as text and nulls.
 */
export function parseRunnerFile(text: string): RunnerFile | undefined {
  let from: ReturnType<typeof asObject>;
  try {
    from = asObject(JSON.parse(text.replace(/^\uFEFF/, "")));
  } catch {
    return undefined;
  }
  if (from === undefined) return undefined;
  const keys = new Map(Object.entries(from).map(([key, value]) => [key.toLowerCase(), value]));
  const name = keys.get("agentname");
  const id = Number(keys.get("agentid") ?? Number.NaN);
  const ephemeral = keys.get("ephemeral");
  return {
    ...(typeof name === "string" && name !== "" ? { name } : {}),
    ...(Number.isSafeInteger(id) && id > 0 ? { id } : {}),
    ephemeral: ephemeral === true || /^true$/i.test(String(ephemeral)),
  };
}

export async function readRunnerFile(dir: string): Promise<RunnerFile | undefined> {
  try {
    return parseRunnerFile(await readFile(join(dir, ".runner"), "utf8"));
  } catch {
    return undefined;
  }
}
