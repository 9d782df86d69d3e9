import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { waitFor } from "@mig/kit";
import { hasEnded, readProcStat } from "../../src/runner/proc.ts";

/** The runtime that runs this test; everything below starts its programs on the same one. */
export const isBun = "bun" in process.versions;

const here = fileURLToPath(new URL(".", import.meta.url));
const program = join(here, "probe-program.ts");

export interface Probe {
  readonly child: ChildProcess;
  readonly pid: number;
  text(): string;
  /** What it has said so far, once it holds this. */
  says(text: string): Promise<string>;
  ended(): Promise<{ code: number | null; signal: NodeJS.Signals | null; stdout: string; stderr: string }>;
}

const started = new Set<ChildProcess>();

export function startProbe(...args: readonly string[]): Probe {
  const child = spawn(process.execPath, ["--conditions=mig-source", program, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  started.add(child);
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (chunk) => {
    stdout += String(chunk);
  });
  child.stderr.on("data", (chunk) => {
    stderr += String(chunk);
  });
  const closed = new Promise<[number | null, NodeJS.Signals | null]>((resolve) =>
    child.once("close", (code, signal) => resolve([code, signal])),
  );
  return {
    child,
    pid: child.pid ?? 0,
    text: () => stdout,
    says: (text) =>
      waitFor(`"${text}"; said: ${stdout}${stderr}`, () => (stdout.includes(text) ? stdout : undefined)),
    async ended() {
      const [code, signal] = await closed;
      started.delete(child);
      return { code, signal, stdout, stderr };
    },
  };
}

/** For afterEach. */
export function endProbes(): void {
  for (const child of started) child.kill("SIGKILL");
  started.clear();
}

/** Whether there is such a process; one that has ended and was not reaped yet is none. */
export async function lives(pid: number): Promise<boolean> {
  const stat = await readProcStat(pid);
  return stat !== undefined && !hasEnded(stat);
}
