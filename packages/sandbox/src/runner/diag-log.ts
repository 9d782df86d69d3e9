import { appendFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";

/** Date and time as .NET's format `u` gives it on UTC (runner-contract §4.1). */
export function timestamp(date = new Date()): string {
  return `${date.toISOString().slice(0, 19).replace("T", " ")}Z`;
}

/** One `_diag` log of one process; every line is on disk when the call returns (runner-contract §5). */
export class DiagLog {
  readonly #path: string;
  readonly #prefix: string;
  readonly #print: boolean;

  constructor(root: string, program: "Runner" | "Worker") {
    mkdirSync(join(root, "_diag"), { recursive: true });
    const stamp = timestamp().replaceAll(/[-:Z]/g, "").replace(" ", "-");
    this.#path = join(root, "_diag", `${program}_${stamp}-utc.log`);
    this.#prefix = program.toUpperCase();
    this.#print = /^(1|\$?true)$/i.test(process.env["ACTIONS_RUNNER_PRINT_LOG_TO_STDOUT"] ?? "");
  }

  info(source: string, message: string): void {
    this.#write("INFO", source, message);
  }

  error(source: string, message: string): void {
    this.#write("ERR ", source, message);
  }

  #write(level: string, source: string, message: string): void {
    const line = `${timestamp()} ${level} ${source}] ${message}\n`;
    try {
      appendFileSync(this.#path, `[${line}`);
    } catch {
      // A full or vanished disk must not stop the runner; the real one goes on too.
    }
    if (this.#print) process.stdout.write(`[${this.#prefix} ${line}`);
  }
}

/** Appends one counter to `$RUNNER_PERFLOG/<program>.perf`, when that is set (runner-contract §4.7). */
export function recordPerf(program: "Runner" | "Worker", counter: string): void {
  const folder = process.env["RUNNER_PERFLOG"];
  if (!folder) return;
  try {
    mkdirSync(folder, { recursive: true });
    const at = new Date().toISOString().replace("Z", "0000Z");
    appendFileSync(join(folder, `${program}.perf`), `${counter.replaceAll(":", "_")}:${at}\n`);
  } catch {
    // Failures of this log are ignored by the real runner as well.
  }
}
