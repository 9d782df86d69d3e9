import type { ParseArgsOptionDescriptor } from "node:util";

/** One thing that migctl does, as `migctl github check`. `--help` and a wrong command line are the frame's. */
export interface Verb {
  /** "github check". */
  name: string;
  /** Below its name in the help. */
  help: string;
  /** Two ways to use it. */
  examples: readonly [string, string];
  /** For the shells' completion. */
  options: Readonly<Record<string, ParseArgsOptionDescriptor>>;
  /** The exit code. Throws UsageError for a wrong command line, ApiError when the controller does not answer well. */
  run(args: string[], io: Io): Promise<number>;
}

export interface Io {
  out(text: string): void;
  /** Columns of the terminal; infinite where nobody looks, so that what is piped on is whole. */
  width: number;
  hasColor: boolean;
  /** Aborted by Ctrl-C and SIGTERM. */
  signal: AbortSignal;
}

/** What a program may rely on. Each verb uses those that it can end with. */
export const exitCodes = { done: 0, failed: 1, usage: 2, unwell: 3 } as const;

/** The command line is wrong. */
export class UsageError extends Error {
  override name = "UsageError";
}

/** The verb whose words the command line begins with, and what is left of it. */
export function findVerb(
  verbs: readonly Verb[],
  args: readonly string[],
): { verb: Verb; rest: string[] } | undefined {
  for (const verb of verbs) {
    const words = verb.name.split(" ");
    if (words.every((word, i) => args[i] === word)) return { verb, rest: args.slice(words.length) };
  }
  return undefined;
}

export function helpOf({ name, help, examples }: Verb): string {
  return `  migctl ${name} ${help}\n      Examples:\n${examples.map((line) => `        ${line}\n`).join("")}`;
}
