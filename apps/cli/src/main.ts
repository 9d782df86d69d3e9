import { PRODUCT_VERSION } from "@mig/protocol";
import { ApiError } from "./api.ts";
import { familyOf, findVerb, unknownVerb } from "./find-verb.ts";
import { fitText } from "./fit-text.ts";
import { jsonText } from "./json-text.ts";
import { printable } from "./table.ts";
import { exitCodes, helpOf, UsageError, type Verb } from "./verb.ts";
import { verbs } from "./verbs/all.ts";

/** migctl: its exit codes are in verb.ts, and in the help of each verb. */
const args = process.argv.slice(2);
const isJson = args.includes("--json");
const end = new AbortController();
/** The code that shells give to what a signal ended. */
let endedBy: number | undefined;

async function main(): Promise<number> {
  const [command] = args;
  if (command === "--version" || command === "-v") return say(`${PRODUCT_VERSION}\n`);
  const asked = command === "help" ? args.slice(1) : args;
  const found = findVerb(verbs, asked);
  const wantsHelp = command === "help" || args.includes("--help") || args.includes("-h");
  if (found !== undefined && wantsHelp) return say(helpOf(found.verb));
  if (command === undefined || wantsHelp) {
    const family = familyOf(verbs, asked[0]);
    return say(family.length === 0 ? listOf(verbs) : listOf(family));
  }
  if (found === undefined) throw unknownVerb(verbs, args);
  for (const [signal, code] of [
    ["SIGINT", exitCodes.interrupted],
    ["SIGTERM", exitCodes.terminated],
  ] as const)
    process.on(signal, () => {
      endedBy ??= code;
      end.abort();
    });
  const code = await found.verb.run(found.rest, {
    out: (text) => void say(text),
    width: widthOf(process.stdout),
    hasColor: hasColor(),
    signal: end.signal,
  });
  // What goes on until Ctrl-C has done what was asked; anything else was cut short by it.
  return code === exitCodes.done ? code : (endedBy ?? code);
}

function listOf(some: readonly Verb[]): string {
  return `migctl ${PRODUCT_VERSION}\n\n${some.map(({ name }) => `  migctl ${name}\n`).join("")}\n  migctl VERB --help tells how; migctl --version\n`;
}

/** What a program reads is never broken. */
function widthOf(stream: NodeJS.WriteStream): number {
  if (isJson) return Number.POSITIVE_INFINITY;
  const told = Number(process.env["COLUMNS"]);
  return (stream.isTTY && stream.columns) || (told > 0 ? told : Number.POSITIVE_INFINITY);
}

/** https://no-color.org */
function hasColor(): boolean {
  const { NO_COLOR: none = "", TERM: terminal } = process.env;
  return process.stdout.isTTY && none === "" && terminal !== "dumb" && !isJson;
}

function say(text: string): number {
  process.stdout.write(fitText(text, widthOf(process.stdout)));
  return exitCodes.done;
}

function complain(error: unknown): number {
  const wasCut = endedBy !== undefined && !(error instanceof UsageError);
  const problem = wasCut ? "interrupted" : error instanceof Error ? error.message : String(error);
  const isUsage = error instanceof UsageError;
  if (isJson) {
    const code = isUsage
      ? "usage"
      : wasCut
        ? "interrupted"
        : error instanceof ApiError
          ? error.code
          : "failed";
    process.stderr.write(`${jsonText({ error: { code, message: problem } })}\n`);
  } else {
    const lines = problem.split("\n").map(printable).join("\n");
    const text = `migctl: ${lines}\n${isUsage ? "Try: migctl --help\n" : ""}`;
    process.stderr.write(fitText(text, widthOf(process.stderr)));
  }
  return isUsage ? exitCodes.usage : (endedBy ?? exitCodes.failed);
}

// Whoever reads no further, as head, has had enough.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(exitCodes.done);
  throw error;
});
try {
  process.exitCode = await main();
} catch (error) {
  process.exitCode = complain(error);
}
