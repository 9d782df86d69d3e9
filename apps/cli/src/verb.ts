import type { ParseArgsOptionDescriptor } from "node:util";

/** One thing that migctl does, as `migctl github check`. `--help` and a wrong command line are the frame's. */
export interface Verb {
  /** "github check". */
  name: string;
  /** Below its name in the help, with its exit codes at the end. */
  help: string;
  /** Two ways to use it, as the shell takes them. */
  examples: readonly [string, string];
  /** For the shells' completion. */
  options: Readonly<Record<string, ParseArgsOptionDescriptor>>;
  /** Throws UsageError for what `run` would not begin with. */
  check(args: string[]): void;
  /** The exit code. Throws UsageError for a wrong command line, ApiError when the controller does not answer well. */
  run(args: string[], io: Io): Promise<number>;
}

export interface Io {
  /** What is wider than the terminal is broken at its spaces, unless it steers the cursor itself. */
  out(text: string): void;
  /** Columns of the terminal; infinite where nobody looks, so that what is piped on is whole. */
  width: number;
  hasColor: boolean;
  /** Aborted by Ctrl-C and SIGTERM. */
  signal: AbortSignal;
}

/** What a program may rely on. Each verb uses those that it can end with, and its help names them. */
export const exitCodes = {
  done: 0,
  failed: 1,
  usage: 2,
  unwell: 3,
  /** What a command that was waited for came to. */
  commandFailed: 4,
  commandRejected: 5,
  commandExpired: 6,
  commandWithdrawn: 7,
  /** Waited for longer than --timeout. */
  timeout: 8,
  /** By Ctrl-C, before it was done; as shells say it. */
  interrupted: 130,
  terminated: 143,
} as const;

/** The command line is wrong. */
export class UsageError extends Error {
  override name = "UsageError";
}

export function helpOf({ name, help, examples }: Verb): string {
  return `  migctl ${name} ${help}\n      Examples:\n${examples.map((line) => `        ${line}\n`).join("")}`;
}
