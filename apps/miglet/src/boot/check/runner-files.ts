import { dirname } from "node:path";
import { MigError } from "@mig/lifecycle";
import { inspectRunner } from "../../runner/installed-runner.ts";
import { findUser } from "../find-user.ts";
import type { Settings } from "../settings-table.ts";
import type { CheckSpec } from "./check.ts";
import { runAs } from "./run-as.ts";

export const runner: CheckSpec = {
  name: "runner",
  needs: ["runner.dir"],
  isRequired: () => true,
  isCheap: true,
  code: "runner_not_installed",
  async find(settings) {
    const [dir, version, sha256] = [
      settings["runner.dir"],
      settings["runner.version"],
      settings["runner.sha256"],
    ];
    try {
      await inspectRunner(dir, false);
      return dir;
    } catch (error) {
      if (version !== undefined && sha256 !== undefined) return `${version} will be downloaded`;
      if (!(error instanceof MigError)) throw error;
      const remedy = version === undefined ? "runner.version and runner.sha256" : "runner.sha256";
      throw new MigError(error.code, `${error.message} Or set ${remedy}, and it is downloaded.`, {
        cause: error,
      });
    }
  },
};

/** The scripts of actions/runner refuse root without being told, and end with 0 (runner-contract trap 37). */
export const user: CheckSpec = {
  name: "user",
  needs: ["runner.user", "runner.allow_root"],
  isRequired: () => true,
  isCheap: true,
  code: "settings_invalid",
  async find(settings) {
    const [name, allowsRoot] = [settings["runner.user"], settings["runner.allow_root"]];
    if (name === undefined) {
      if (process.getuid?.() === 0 && !allowsRoot)
        throw new Error(
          "The agent is root, and so the runner would be: set runner.user, or runner.allow_root to true.",
        );
      return undefined;
    }
    const { uid } = await findUser(name);
    if (uid === 0 && !allowsRoot)
      throw new Error(`runner.user ${name} is root: name another user, or set runner.allow_root to true.`);
    if (uid !== process.getuid?.() && process.getuid?.() !== 0)
      throw new Error(
        // Capabilities instead would be inherited by every job (docs/operate/miglet.md).
        `Only root can run the runner as ${name}: start the agent as root, or leave runner.user out.`,
      );
    return name;
  },
};

/**
 * The Listener lists its directory and every one above it, and ends with 1 when one refuses (runner-contract §1.6); it
 * also writes there (§1.1). Tried as the runner's user by the shell's own test, which knows of groups and ACLs.
 */
export const directories: CheckSpec = {
  name: "directories",
  needs: ["runner.dir", "runner.user"],
  isRequired: () => true,
  isCheap: true,
  async find(settings, { environment }, signal) {
    // One that does not exist is the check `user`'s to say.
    const who = await runnerUser(settings).catch(() => "nobody" as const);
    if (who === "nobody") return "not tried: there is no such user";
    const dir = settings["runner.dir"];
    const above = [
      ...ancestorsOf(dirname(dir)),
      ...(settings["runner.version"] === undefined ? [] : ancestorsOf(settings["runner.install_root"])),
    ];
    // A directory that is not there is said elsewhere, or made by the download.
    const script =
      'for d in "$@"; do [ ! -e "$d" ] || { [ -r "$d" ] && [ -x "$d" ]; } || echo "$d"; done; [ ! -e "$DIR" ] || [ -w "$DIR" ] || echo "write $DIR"';
    const { code, stdout, stderr } = await runAs(
      ["/bin/sh", "-c", script.replaceAll("$DIR", "$1"), "sh", dir, ...above],
      { environment, signal, timeoutMs: 4_000, ...(who === undefined ? {} : { user: who }) },
    );
    if (code !== 0) throw new Error(`It cannot be tried as the runner's user: ${firstLine(stderr)}`);
    const refused = stdout.split("\n").filter((line) => line !== "");
    const name = who?.name ?? "the agent's user";
    const closed = [...new Set(refused.filter((line) => !line.startsWith("write ")))];
    if (closed.length > 0)
      throw new Error(
        `${name} cannot list ${closed.join(", ")}, and the runner lists every directory up to /: chmod 0755 it, or set runner.dir elsewhere.`,
      );
    if (refused.length > 0)
      throw new Error(
        `${name} cannot write ${dir}, where the runner keeps its files: chown -R ${name} ${dir}`,
      );
    return undefined;
  },
};

function ancestorsOf(directory: string): string[] {
  const parent = dirname(directory);
  return parent === directory ? [directory] : [directory, ...ancestorsOf(parent)];
}

/** Undefined: the agent's own. */
export async function runnerUser(
  settings: Settings,
): Promise<Awaited<ReturnType<typeof findUser>> | undefined> {
  const name = settings["runner.user"];
  return name === undefined ? undefined : findUser(name);
}

export function firstLine(text: string): string {
  return text.trim().split("\n")[0]?.slice(0, 300) ?? "";
}
