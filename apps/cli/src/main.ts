import { PRODUCT_VERSION } from "@mig/protocol";
import { exitCodes, findVerb, helpOf, UsageError } from "./verb.ts";
import { verbs } from "./verbs/all.ts";

/** migctl. Exit codes: 0 done · 1 what was asked failed · 2 the command line is wrong · 3 what was looked at is not well. */
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
  return found.verb.run(found.rest, {
    out: (text) => void say(text),
    width: widthOf(),
    hasColor: process.stdout.isTTY && (process.env["NO_COLOR"] ?? "") === "",
    signal: end.signal,
  });
}

function help(): string {
  return `migctl ${PRODUCT_VERSION}\n\n${verbs.map(({ name }) => `  migctl ${name}\n`).join("")}\n  migctl VERB --help tells how; migctl --version\n`;
}

function widthOf(): number {
  const told = Number(process.env["COLUMNS"]);
  return (process.stdout.isTTY && process.stdout.columns) || (told > 0 ? told : Number.POSITIVE_INFINITY);
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
