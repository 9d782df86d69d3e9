import { spawn } from "node:child_process";
import { access, constants, mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { waitFor } from "@mig/kit";
import { hasTool, type Ran, runProgram } from "./run-program.ts";

/** A systemd that has booted in namespaces of this machine: apps/miglet/deploy/try/systemd-machine.sh. */
export interface SystemdMachine {
  inside(program: string, ...args: string[]): Promise<Ran>;
  /** Answers what it printed. */
  shell(script: string): Promise<string>;
  /** A path of the machine, seen from here. */
  at(path: string): string;
  show(property: string, unit?: string): Promise<string>;
  /** In place of what `miglet.service` says, until the next one. */
  override(lines: readonly string[]): Promise<void>;
  close(): Promise<void>;
}

const script = fileURLToPath(new URL("../../apps/miglet/deploy/try/systemd-machine.sh", import.meta.url));
const namespaces = ["--mount", "--pid", "--uts", "--ipc", "--cgroup"];

/** Undefined where it cannot boot. */
export async function bootSystemd(): Promise<SystemdMachine | undefined> {
  if (process.platform !== "linux" || process.getuid?.() !== 0 || !(await hasWhatItNeeds())) return undefined;
  const machine = spawn("unshare", [...namespaces, "--fork", "--kill-child", script], { stdio: "ignore" });
  const ended = new Promise((resolve) => machine.once("exit", resolve));
  let pid = "";
  const inside = (program: string, ...args: string[]): Promise<Ran> =>
    runProgram("nsenter", ["--target", pid, ...namespaces, program, ...args]);
  const at = (path: string): string => join("/proc", pid, "root", path);
  const shell = async (text: string): Promise<string> => (await inside("sh", "-c", text)).stdout.trim();
  const close = async (): Promise<void> => {
    machine.kill("SIGKILL");
    await ended;
  };
  const isUp = async (): Promise<boolean> => {
    if (machine.exitCode !== null) return true;
    const children = await readFile(`/proc/${machine.pid}/task/${machine.pid}/children`, "utf8");
    pid = children.trim();
    return pid !== "" && (await inside("systemctl", "is-system-running")).stdout.trim() === "running";
  };
  const hasBooted = await waitFor("systemd", isUp, { timeoutMs: 20_000 }).then(
    () => machine.exitCode === null,
    () => false,
  );
  // A repository on a file system of its own, as a separate /tmp, is not in the overlay.
  if (!hasBooted || (await inside("test", "-f", script)).code !== 0) {
    await close();
    return undefined;
  }
  return {
    inside,
    shell,
    at,
    show: (property, unit = "miglet") => shell(`systemctl show --value -p ${property} ${unit}`),
    async override(lines) {
      const folder = at("/etc/systemd/system/miglet.service.d");
      await mkdir(folder, { recursive: true });
      await writeFile(join(folder, "test.conf"), `[Service]\n${lines.join("\n")}\n`);
      await inside("systemctl", "daemon-reload");
    },
    close,
  };
}

async function hasWhatItNeeds(): Promise<boolean> {
  const hasSystemd = await access("/lib/systemd/systemd", constants.X_OK).then(
    () => true,
    () => false,
  );
  // The stand-in runner is another user there, and must come to Node and to the repository.
  for (let path = dirname(script); path !== "/"; path = dirname(path))
    if (((await stat(path)).mode & 0o005) !== 0o005) return false;
  return hasSystemd && ["unshare", "nsenter", "systemd-run"].every(hasTool);
}
