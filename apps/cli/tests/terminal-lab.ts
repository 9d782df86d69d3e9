import { execFile, spawn } from "node:child_process";
import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { bin } from "./migctl-lab.ts";

/** A pseudo-terminal with migctl in it, as a person sits before one. */
export interface Terminal {
  /** All that came, as it came. */
  readonly shown: string;
  readonly code: number | undefined;
  type(text: string): void;
  resize(columns: number): Promise<void>;
  /** Its exit code. */
  readonly ended: Promise<number>;
}

export interface TerminalSettings {
  columns: number;
  rows?: number;
  env: Record<string, string>;
  /** Instead of migctl: words for the shell. */
  line?: string;
}

const quote = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;

export function openTerminal(
  args: readonly string[],
  { columns, rows = 24, env, line }: TerminalSettings,
): Terminal {
  const where = join(mkdtempSync(join(process.env["MIG_TEST_RUN_DIR"] ?? tmpdir(), "tty-")), "name");
  const words = line ?? `exec ${[process.execPath, bin, ...args].map(quote).join(" ")}`;
  const child = spawn(
    "script",
    ["-qec", `tty > ${quote(where)}; stty cols ${columns} rows ${rows}; ${words}`, "/dev/null"],
    {
      env: { PATH: process.env["PATH"], TERM: "xterm-256color", ...env },
      stdio: ["pipe", "pipe", "inherit"],
    },
  );
  let shown = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    shown += text;
  });
  child.stdin.on("error", () => {});
  const ended = new Promise<number>((resolve) => child.on("close", (code) => resolve(code ?? -1)));
  return {
    get shown() {
      return shown;
    },
    get code() {
      return child.exitCode ?? undefined;
    },
    type: (text) => void child.stdin.write(text),
    resize: async (to) => {
      await promisify(execFile)("stty", ["-F", readFileSync(where, "utf8").trim(), "cols", String(to)]);
    },
    ended,
  };
}
