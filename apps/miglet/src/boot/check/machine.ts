import { access, constants, mkdir, readFile, rm, rmdir, statfs, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { MigError } from "@mig/lifecycle";
import type { CheckSpec } from "./check.ts";
import { findProgram, runAs } from "./run-as.ts";

const always = (): boolean => true;
const never = (): boolean => false;

export const stateDir: CheckSpec = {
  name: "state_dir",
  needs: ["state_dir"],
  isRequired: always,
  isCheap: true,
  code: "state_unwritable",
  async find({ state_dir: directory }) {
    const trial = join(directory, `.trial-${process.pid}`);
    try {
      const made = await mkdir(directory, { recursive: true, mode: 0o700 });
      await writeFile(trial, "");
      await rm(trial);
      // Whoever only asks whether the machine is fit leaves nothing behind.
      if (made !== undefined) await rmdir(directory);
    } catch (cause) {
      const code = (cause as NodeJS.ErrnoException).code ?? "error";
      throw new MigError(
        "state_unwritable",
        `${directory} cannot be written (${code}): set state_dir to a directory that the agent may write to.`,
        { cause },
      );
    }
    return undefined;
  },
};

export const disk: CheckSpec = {
  name: "disk",
  needs: ["runner.dir", "prerequisites.disk_free_mib"],
  isRequired: always,
  isCheap: true,
  async find(settings) {
    const [directory, neededMib] = [settings["runner.dir"], settings["prerequisites.disk_free_mib"]];
    const { bavail, bsize } = await statfsOf(directory);
    const freeMib = Math.floor((bavail * bsize) / (1024 * 1024));
    if (freeMib < neededMib)
      throw new Error(
        `${directory} has ${freeMib} MiB free and needs ${neededMib}: use a larger disk, or set prerequisites.disk_free_mib.`,
      );
    return `${freeMib} MiB free`;
  },
};

const namedFiles = [
  "controller.auth.token_path",
  "controller.ca_path",
  "controller.tls.cert_path",
  "controller.tls.key_path",
  "runner.download_ca_path",
] as const;

export const files: CheckSpec = {
  name: "files",
  needs: [],
  isRequired: always,
  isCheap: true,
  code: "settings_invalid",
  async find(settings) {
    const problems = await Promise.all(
      namedFiles.map(async (key) => {
        const path = settings[key];
        if (path === undefined) return [];
        return access(path, constants.R_OK).then(
          () => [],
          (error: NodeJS.ErrnoException) => [`${path} cannot be read (${error.code}): correct ${key}.`],
        );
      }),
    );
    if (problems.flat().length > 0) throw new Error(problems.flat().join(" "));
    return undefined;
  },
};

/** Of the directory, or of where it would be made: that it is missing is another check's to say. */
async function statfsOf(directory: string): Promise<{ bavail: number; bsize: number }> {
  try {
    return await statfs(directory);
  } catch (error) {
    if (dirname(directory) === directory) throw error;
    return statfsOf(dirname(directory));
  }
}

export const mounts: CheckSpec = {
  name: "mounts",
  needs: ["prerequisites.mounts"],
  isRequired: (settings) => settings["prerequisites.mounts"].length > 0,
  isCheap: true,
  canHeal: true,
  async find(settings) {
    const wanted = settings["prerequisites.mounts"];
    if (wanted.length === 0) return "none asked for";
    const mounted = parseMountPoints(await readFile("/proc/self/mountinfo", "utf8"));
    const missing = wanted.filter((path) => !mounted.has(path.replace(/(.)\/+$/, "$1")));
    if (missing.length > 0)
      throw new Error(
        `${missing.join(", ")} ${missing.length === 1 ? "is not" : "are not"} mounted: mount it (see /etc/fstab and systemctl list-units --type=mount), or correct prerequisites.mounts.`,
      );
    return wanted.join(", ");
  },
};

/** proc(5): the fifth field, with blanks and backslashes as octal. */
export function parseMountPoints(mountinfo: string): ReadonlySet<string> {
  const points = mountinfo.split("\n").flatMap((line) => line.split(" ")[4] ?? []);
  return new Set(
    points.map((point) =>
      point.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))),
    ),
  );
}

const willDownload = ({ "runner.version": version }: { "runner.version": string | undefined }): boolean =>
  version !== undefined;

function program(name: string, isRequired: CheckSpec["isRequired"], remedy: string): CheckSpec {
  return {
    name,
    needs: [],
    isRequired,
    isCheap: true,
    async find(_, { environment }) {
      const found = await findProgram(name, environment["PATH"]);
      if (found === undefined) throw new Error(`There is no ${name} on the PATH: ${remedy}`);
      return found;
    },
  };
}

export const bash = program("bash", always, "install bash; the runner's own scripts need it.");
export const tar = program("tar", willDownload, "install tar; a downloaded runner is unpacked with it.");
export const setpriv: CheckSpec = {
  ...program(
    "setpriv",
    never,
    "install util-linux; without it the runner lacks its user's further groups, such as docker.",
  ),
  needs: ["runner.user"],
};

/** .NET ends at once without ICU, unless it is told to do without (runner-contract §2, installdependencies.sh). */
export const libraries: CheckSpec = {
  name: "libraries",
  needs: ["runner.dir"],
  isRequired: never,
  isCheap: true,
  async find(settings, { environment }, signal) {
    if (environment["DOTNET_SYSTEM_GLOBALIZATION_INVARIANT"] === "1") return "ICU is not wanted";
    const ldconfig = (await findProgram("ldconfig", environment["PATH"])) ?? (await findProgram("ldconfig"));
    if (ldconfig === undefined) return "not known: there is no ldconfig";
    const { stdout } = await runAs([ldconfig, "-p"], { environment, signal, timeoutMs: 3_000 });
    const missing = ["libicuuc", "libssl"].filter((name) => !stdout.includes(`${name}.so`));
    if (missing.length > 0)
      throw new Error(
        `${missing.join(" and ")} cannot be found by ldconfig, and the runner may not start: run ${join(settings["runner.dir"], "bin/installdependencies.sh")}, or install libicu and libssl.`,
      );
    return undefined;
  },
};

/** The runner kills at a job's end every process that has the job's RUNNER_TRACKING_ID (runner-contract trap 44). */
export const environment: CheckSpec = {
  name: "environment",
  needs: [],
  isRequired: never,
  isCheap: true,
  find: (_, machine) =>
    machine.environment["RUNNER_TRACKING_ID"] === undefined
      ? Promise.resolve(undefined)
      : Promise.reject(
          new Error(
            "RUNNER_TRACKING_ID is set: this agent was started inside a job, whose end may kill it. Start it by systemd or without that variable.",
          ),
        ),
};
