import { resolve } from "node:path";
import { createInterface } from "node:readline";
import { Writable } from "node:stream";
import { openApi } from "../api.ts";
import { type Credential, tokenSourceOf } from "../credential.ts";
import { jsonText } from "../json-text.ts";
import { linesOf, parse } from "../options.ts";
import { readProfiles, writeProfiles } from "../profiles.ts";
import { exitCodes, UsageError, type Verb } from "../verb.ts";

const told = {
  profile: { takes: "NAME", help: "one of several controllers (default: default)" },
  "token-file": {
    takes: "FILE",
    help: "keep the name of a file that holds the token, and read it each time",
  },
  "token-command": {
    takes: "COMMAND",
    help: "keep a command that prints the token, and run it each time (60 s at most)",
  },
  json: { help: "for programs" },
};
const options = {
  profile: { type: "string", default: "default" },
  "token-file": { type: "string" },
  "token-command": { type: "string" },
  json: { type: "boolean" },
} as const;

export const loginVerb: Verb = {
  name: "login",
  help: `URL [options]
      Asks for an API key, or reads it from stdin, tries it, and keeps it in ~/.config/mig/profiles.yaml (0600).
      With a token of your OpenID provider, which does not last, keeps where the next one comes from.
      The profile of the last login is used; MIG_URL and MIG_API_KEY win over it.
${linesOf(told)}      Exit codes: 0 done, 1 the key was refused, 2 the command line is wrong or there is no token.`,
  examples: [
    "migctl login https://mig.internal --profile prod < key",
    'migctl login https://mig.internal --token-command "gcloud auth print-identity-token"',
  ],
  options,
  check: (args) => void read(args),
  async run(args, io) {
    const { values, url, name } = read(args);
    const credential = await chooseCredential(values["token-file"], values["token-command"]);
    const token = tokenSourceOf(credential, io.signal);
    await openApi({ url, token, signal: io.signal }).call("GET", "/api/v1/vms?limit=1");
    const profiles = await readProfiles();
    profiles.all[name] = { url, credential };
    const path = await writeProfiles({ ...profiles, current: name });
    if (values["json"] === true) io.out(`${jsonText({ profile: name, url, path })}\n`);
    else io.out(`Logged in to ${url}; kept as profile "${name}" in ${path}\n`);
    return exitCodes.done;
  },
};

function read(args: string[]) {
  const { values, positionals } = parse(args, options, true);
  const [url, ...more] = positionals;
  const name = typeof values["profile"] === "string" ? values["profile"] : "default";
  if (url === undefined || more.length > 0) throw new UsageError("login takes the controller's URL");
  if (!/^[A-Za-z0-9][\w.-]{0,63}$/.test(name)) throw new UsageError("--profile takes a short name");
  return { values, url, name };
}

async function chooseCredential(file: unknown, command: unknown): Promise<Credential> {
  if (file !== undefined && command !== undefined)
    throw new UsageError("--token-file excludes --token-command; choose one");
  if (typeof file === "string" && file !== "") return { tokenFile: resolve(file) };
  if (typeof command === "string" && command.trim() !== "") return { tokenCommand: command };
  if (file !== undefined || command !== undefined)
    throw new UsageError("--token-file takes a path, --token-command what a shell understands");
  const key = (await readKey()).trim();
  if (!/^[!-~]{1,8192}$/.test(key)) throw new UsageError("an API key is one word, as in mgk_…");
  return { key };
}

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
