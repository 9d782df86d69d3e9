import { type ChildProcess, spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** A program of this repository as a child process; what it prints goes to a file, line by line to `onLine`. */
export interface ProgramSettings {
  name: string;
  /** From the repository's root. */
  bin: string;
  args: string[];
  logPath: string;
  onLine(line: string): void;
  onExit?(how: string): void;
}

export interface Program {
  /** Rejects when the program ends before it was told to. */
  readonly failed: Promise<never>;
  /** SIGTERM, once more after five seconds (a MIGlet then ends its job, too), SIGKILL after ten. Resolves at its end. */
  stop(): Promise<void>;
}

const root = new URL("../../../../", import.meta.url);

export function startProgram({ name, bin, args, logPath, onLine, onExit }: ProgramSettings): Program {
  // A group of its own: Ctrl-C on the terminal reaches migctl alone, which then ends the others in order.
  const child = spawn(process.execPath, [fileURLToPath(new URL(bin, root)), ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
    // The stand-in runner refuses to run as root without this, as the real one does.
    env: { ...process.env, RUNNER_ALLOW_RUNASROOT: "1" },
  });
  const log = createWriteStream(logPath);
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on("line", (line) => {
      log.write(`${line}\n`);
      onLine(line);
    });
  }
  let stopping = false;
  const ended = new Promise<string>((resolve) => {
    child.on("error", (error) => resolve(error.message));
    child.on("exit", (code, signal) => resolve(signal === null ? `exit code ${code}` : signal));
  });
  void ended.then((how) => {
    log.end();
    if (!stopping) onExit?.(how);
  });
  const failed = ended.then((how) => {
    throw new Error(`${name} ended (${how}); see ${logPath}`);
  });
  failed.catch(() => {});
  return {
    failed,
    async stop() {
      stopping = true;
      await endChild(child, ended);
    },
  };
}

async function endChild(child: ChildProcess, ended: Promise<string>): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGTERM");
  const insist = setTimeout(() => child.kill("SIGTERM"), 5_000);
  const force = setTimeout(() => child.kill("SIGKILL"), 10_000);
  await ended;
  clearTimeout(insist);
  clearTimeout(force);
}
