import { PRODUCT_VERSION } from "@mig/protocol";
import { devVerb } from "./dev/verb.ts";
import { githubCheck } from "./github/check.ts";
import { exitCodes, findVerb, UsageError, type Verb } from "./verb.ts";

/** migctl. Exit codes: 0 done · 1 what was asked failed · 2 the command line is wrong · 3 what was looked at is not well. */
const verbs: readonly Verb[] = [devVerb, githubCheck];

const helpOf = ({ name, help }: Verb): string => `  migctl ${name} ${help}\n`;

async function main(args: string[]): Promise<number> {
  const [command] = args;
  if (command === "--version" || command === "-v") return say(`${PRODUCT_VERSION}\n`);
  const found = findVerb(verbs, args);
  const wantsHelp = args.includes("--help") || args.includes("-h");
  if (found !== undefined && wantsHelp) return say(helpOf(found.verb));
  if (command === undefined || command === "help" || wantsHelp) return say(help());
  if (found === undefined) {
    const family = verbs.filter(({ name }) => name.startsWith(`${command} `)).map(({ name }) => `"${name}"`);
    const hint = family.length === 0 ? "" : `; there is ${family.join(", ")}`;
    throw new UsageError(`there is no command "${args.slice(0, 2).join(" ")}"${hint}`);
  }
  const end = new AbortController();
  process.on("SIGINT", () => end.abort());
  process.on("SIGTERM", () => end.abort());
  return found.verb.run(found.rest, { out: (text) => void say(text), signal: end.signal });
}

function help(): string {
  return `migctl ${PRODUCT_VERSION}\n\n${verbs.map(helpOf).join("\n")}\n  migctl --help | --version\n`;
}

function say(text: string): number {
  process.stdout.write(text);
  return exitCodes.done;
}

function complain(error: unknown): number {
  const problem = error instanceof Error ? error.message : String(error);
  const isUsage = error instanceof UsageError;
  process.stderr.write(`migctl: ${problem}\n${isUsage ? "Try: migctl --help\n" : ""}`);
  return isUsage ? exitCodes.usage : exitCodes.failed;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.exitCode = complain(error);
}
