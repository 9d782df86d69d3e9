import { mkdir, rm, statfs, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { dirname, join } from "node:path";
import { type ErrorCode, MigError } from "@mig/lifecycle";
import { inspectRunner } from "../runner/installed-runner.ts";
import { findUser } from "./find-user.ts";
import type { Settings } from "./settings-table.ts";

/** What the machine must have before a life begins (DESIGN §6.1). */
export interface Check {
  readonly name: "state_dir" | "runner" | "user" | "disk" | "network";
  readonly isRequired: boolean;
  /** Undefined = all well. What is missing, and what to do. */
  readonly problem?: string;
  readonly code: ErrorCode;
}

export async function checkPrerequisites(settings: Settings): Promise<Check[]> {
  const look = async (
    name: Check["name"],
    isRequired: boolean,
    find: () => Promise<void>,
  ): Promise<Check> => {
    try {
      await find();
      return { name, isRequired, code: "prerequisite_missing" };
    } catch (error) {
      const code = error instanceof MigError ? error.code : "prerequisite_missing";
      return { name, isRequired, code, problem: error instanceof Error ? error.message : String(error) };
    }
  };
  return Promise.all([
    look("state_dir", true, () => checkStateDir(settings.state_dir)),
    look("runner", true, async () => void (await inspectRunner(settings["runner.dir"], false))),
    look("user", true, () => checkUser(settings)),
    look("disk", true, () => checkDisk(settings["runner.dir"], settings["prerequisites.disk_free_mib"])),
    look("network", settings["prerequisites.network"], () => checkNetwork(settings)),
  ]);
}

async function checkStateDir(directory: string): Promise<void> {
  const trial = join(directory, `.trial-${process.pid}`);
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await writeFile(trial, "");
    await rm(trial);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? "error";
    throw new MigError(
      "state_unwritable",
      `${directory} cannot be written (${code}): set state_dir to a directory that the agent may write to.`,
      { cause },
    );
  }
}

/** The scripts of actions/runner refuse root without being told, and end with 0 (runner-contract trap 37). */
async function checkUser(settings: Settings): Promise<void> {
  const user = settings["runner.user"];
  if (user !== undefined) await findUser(user);
  else if (process.getuid?.() === 0 && !settings["runner.allow_root"])
    throw new Error(
      "The agent is root, and so the runner would be: set runner.user, or runner.allow_root to true.",
    );
  if (user !== undefined && process.getuid !== undefined && process.getuid() !== 0)
    throw new Error(
      `Only root can run the runner as ${user}: start the agent as root, or leave runner.user out.`,
    );
}

async function checkDisk(directory: string, neededMib: number): Promise<void> {
  const { bavail, bsize } = await statfsOf(directory);
  const freeMib = Math.floor((bavail * bsize) / (1024 * 1024));
  if (freeMib < neededMib)
    throw new Error(
      `${directory} has ${freeMib} MiB free and needs ${neededMib}: use a larger disk, or set prerequisites.disk_free_mib.`,
    );
}

/** Of the directory, or of where it would be made: that it is missing is another check's to say. */
async function statfsOf(directory: string): Promise<{ bavail: number; bsize: number }> {
  try {
    return await statfs(directory);
  } catch (error) {
    if (dirname(directory) === directory) throw error;
    return statfsOf(dirname(directory));
  }
}

async function checkNetwork(settings: Settings): Promise<void> {
  const target = settings["controller.endpoint"] ?? settings["controller.grpc_endpoint"] ?? "";
  const url = new URL(/^https?:/.test(target) ? target : `http://${target}`);
  const port = Number(url.port === "" ? (url.protocol === "https:" ? 443 : 80) : url.port);
  await new Promise<void>((resolve, reject) => {
    const socket = connect({ host: url.hostname.replace(/^\[|\]$/g, ""), port, timeout: 5_000 });
    const end = (problem?: string): void => {
      socket.destroy();
      if (problem === undefined) resolve();
      else
        reject(
          new Error(`${url.host} cannot be reached (${problem}): check the network and controller.endpoint.`),
        );
    };
    socket.once("connect", () => end());
    socket.once("timeout", () => end("no answer in 5 s"));
    socket.once("error", (error: NodeJS.ErrnoException) => end(error.code ?? error.message));
  });
}
