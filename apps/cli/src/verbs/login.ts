import { createInterface } from "node:readline";
import { Writable } from "node:stream";
import { openApi } from "../api.ts";
import { linesOf, parse } from "../options.ts";
import { readProfiles, writeProfiles } from "../profiles.ts";
import { exitCodes, UsageError, type Verb } from "../verb.ts";

const options = { profile: { type: "string", default: "default" }, json: { type: "boolean" } } as const;

export const loginVerb: Verb = {
  name: "login",
  help: `URL [options]
      Asks for an API key, or reads it from stdin, tries it, and keeps it in ~/.config/mig/profiles.yaml (0600).
      The profile of the last login is used; MIG_URL and MIG_API_KEY win over it.
${linesOf({ profile: { takes: "NAME", help: "one of several controllers (default: default)" }, json: { help: "for programs" } })}      Exit codes: 0 done, 1 the key was refused, 2 the command line is wrong.`,
  examples: [
    "migctl login https://mig.internal:8080",
    "migctl login https://mig.internal --profile prod < key",
  ],
  options,
  async run(args, io) {
    const { values, positionals } = parse(args, options, true);
    const [url, ...more] = positionals;
    const name = typeof values["profile"] === "string" ? values["profile"] : "default";
    if (url === undefined || more.length > 0) throw new UsageError("login takes the controller's URL");
    if (!/^[A-Za-z0-9][\w.-]{0,63}$/.test(name)) throw new UsageError("--profile takes a short name");
    const token = (await readKey()).trim();
    if (!/^[!-~]{1,4096}$/.test(token)) throw new UsageError("an API key is one word, as in mgk_…");
    await openApi({ url, token, signal: io.signal }).call("GET", "/api/v1/vms?limit=1");
    const profiles = await readProfiles();
    profiles.all[name] = { url, key: token };
    const path = await writeProfiles({ ...profiles, current: name });
    if (values["json"] === true) io.out(`${JSON.stringify({ profile: name, url, path })}\n`);
    else io.out(`Logged in to ${url}; kept as profile "${name}" in ${path}\n`);
    return exitCodes.done;
  },
};

/** What is typed is not shown. */
async function readKey(): Promise<string> {
  const isPerson = process.stdin.isTTY;
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({ input: process.stdin, output: nowhere, terminal: isPerson });
  // Only now: from here on the terminal shows nothing of what is typed.
  if (isPerson) process.stderr.write("API key: ");
  lines.once("SIGINT", () => lines.close());
  try {
    for await (const line of lines) return line;
    throw new UsageError("no API key was given; type it, or pipe it in");
  } finally {
    lines.close();
    if (isPerson) process.stderr.write("\n");
  }
}
