import { execFile } from "node:child_process";
import { access, constants } from "node:fs/promises";
import { join } from "node:path";
import type { RunnerEnvironment } from "../../runner/environment.ts";

export interface Ran {
  /** Undefined: it did not end by itself in time. */
  readonly code: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunAs {
  readonly user?: RunnerEnvironment["user"];
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly signal: AbortSignal;
  readonly timeoutMs: number;
}

const standardPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/**
 * Runs a short program as the runner's user would run it, with that user's groups (docker is one) where setpriv is
 * there. Bounded in time and output; never rejects because of what the program does.
 */
export async function runAs(argv: readonly string[], about: RunAs): Promise<Ran> {
  const { user, environment, signal, timeoutMs } = about;
  const path = environment["PATH"] ?? standardPath;
  const isOther = user !== undefined && user.uid !== process.getuid?.();
  const setpriv = isOther ? await findProgram("setpriv", path) : undefined;
  const [program = "", ...args] =
    isOther && setpriv !== undefined
      ? [setpriv, `--reuid=${user.uid}`, `--regid=${user.gid}`, ...groupsOf(user), "--", ...argv]
      : argv;
  return new Promise((resolve) => {
    execFile(
      program,
      args,
      {
        cwd: "/",
        timeout: timeoutMs,
        killSignal: "SIGKILL",
        signal,
        maxBuffer: 64 * 1024,
        env: {
          PATH: path,
          ...(user === undefined ? {} : { HOME: user.home, USER: user.name, LOGNAME: user.name }),
          ...(environment["DOCKER_HOST"] === undefined ? {} : { DOCKER_HOST: environment["DOCKER_HOST"] }),
        },
        ...(isOther && setpriv === undefined ? { uid: user.uid, gid: user.gid } : {}),
      },
      (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === "number" ? error.code : undefined;
        resolve({ code, stdout, stderr: stderr === "" && error !== null ? error.message : stderr });
      },
    );
  });
}

/** The first one of the PATH that may be executed. */
export async function findProgram(name: string, path: string = standardPath): Promise<string | undefined> {
  for (const directory of path.split(":")) {
    if (!directory.startsWith("/")) continue;
    const candidate = join(directory, name);
    const isThere = await access(candidate, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (isThere) return candidate;
  }
  return undefined;
}

/** setpriv finds the groups by name, and fails for a user that only has a number. */
function groupsOf({ name }: NonNullable<RunnerEnvironment["user"]>): readonly string[] {
  return /^\d+$/.test(name) ? ["--clear-groups"] : ["--init-groups"];
}
