import { type ChildProcess, spawn } from "node:child_process";
import { basename } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { waitFor } from "@mig/kit";
import { asObject, type Unknown } from "@mig/protocol";

/** A built program of the repository, its log lines at hand. What a test starts, it stops: see `stopAll`. */
export interface Spawned {
  readonly pid: number;
  readonly lines: readonly Unknown[];
  /** Undefined while it runs. */
  exitCode(): number | null | undefined;
  /** Resolves when a log line has this sentence, with the line. */
  says(sentence: string, timeoutMs?: number): Promise<Unknown>;
  kill(signal: NodeJS.Signals): void;
  ended(timeoutMs?: number): Promise<number | null>;
}

const running = new Set<ChildProcess>();
const root = new URL("../../", import.meta.url);

export function spawnProgram(
  bin: string,
  args: string[],
  env: Readonly<Record<string, string>> = {},
): Spawned {
  return spawnCommand(process.execPath, [fileURLToPath(new URL(bin, root)), ...args], env);
}

/** A MIGlet: `program`, or what MIG_TEST_AGENT names (scripts/test-on-bun.mjs), or the one that tsc has built. */
export function spawnAgent(
  args: string[],
  env: Readonly<Record<string, string>> = {},
  program = process.env["MIG_TEST_AGENT"],
): Spawned {
  // No cloud is asked: a machine that drops such packets would make each start wait for it.
  const more = { MIGLET_METADATA_SOURCE: "none", ...env };
  return program === undefined
    ? spawnProgram("apps/miglet/bin/miglet.js", args, more)
    : spawnCommand(program, args, more);
}

function spawnCommand(program: string, args: string[], env: Readonly<Record<string, string>>): Spawned {
  const bin = basename(args[0]?.endsWith(".js") ? args[0] : program);
  const child = spawn(program, args, {
    stdio: ["ignore", "pipe", "pipe"],
    // The stand-in runner refuses to run as root without this, as the real one does.
    env: { PATH: process.env["PATH"], HOME: process.env["HOME"], RUNNER_ALLOW_RUNASROOT: "1", ...env },
  });
  running.add(child);
  const lines: Unknown[] = [];
  const raw: string[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on("line", (line) => {
      raw.push(line);
      lines.push(parse(line));
    });
  }
  let code: number | null | undefined;
  child.on("exit", (exit) => {
    code = exit;
    running.delete(child);
  });
  const tail = (): string => raw.slice(-15).join("\n");
  const withTail = async <T>(what: Promise<T>): Promise<T> =>
    what.catch((error: unknown) => {
      throw new Error(`${bin} printed last:\n${tail()}`, { cause: error });
    });
  return {
    pid: child.pid ?? 0,
    lines,
    exitCode: () => code,
    says: (sentence, timeoutMs = 30_000) =>
      withTail(
        waitFor(`"${sentence}" from ${bin}`, () => lines.find((line) => line["msg"] === sentence), {
          timeoutMs,
        }),
      ),
    kill: (signal) => child.kill(signal),
    ended: (timeoutMs = 30_000) =>
      withTail(
        waitFor(`the end of ${bin}`, () => (code === undefined ? undefined : { code }), { timeoutMs }).then(
          (end) => end.code,
        ),
      ),
  };
}

/** For afterEach: ends what is left, and nothing else. */
export async function stopAll(): Promise<void> {
  const left = [...running];
  for (const child of left) child.kill("SIGKILL");
  await waitFor("the end of what the test started", () => left.every((child) => !running.has(child)));
}

function parse(line: string): Unknown {
  try {
    return asObject(JSON.parse(line)) ?? { msg: line };
  } catch {
    return { msg: line };
  }
}
