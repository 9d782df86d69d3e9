import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { displayWidth } from "../src/display-width.ts";
import { findVerb, unknownVerb } from "../src/find-verb.ts";
import { fitText } from "../src/fit-text.ts";
import { helpOf, UsageError, type Verb } from "../src/verb.ts";
import { verbs } from "../src/verbs/all.ts";
import { openHome } from "./migctl-lab.ts";

/** What is promised of every verb, held for each that is in the table, also for those that are yet to come. */
const dir = mkdtempSync(join(process.env["MIG_TEST_RUN_DIR"] ?? tmpdir(), "migctl-verbs-"));
const { run } = openHome();
/** Example → the words that the shell makes of it. */
const argvs = new Map<string, string[]>();
let completions: Map<string, string[]>;
const nowhere = { width: Number.POSITIVE_INFINITY, hasColor: false, signal: new AbortController().signal };

async function scriptOf(shell: string): Promise<string> {
  const said: string[] = [];
  const io = { ...nowhere, out: (text: string) => void said.push(text) };
  await findVerb(verbs, ["completion"])?.verb.run([shell, "--json"], io);
  return JSON.parse(said.join("")).script;
}

beforeAll(async () => {
  const told = join(dir, "told");
  writeFileSync(join(dir, "key"), "mgk_x\n");
  const lines = verbs.flatMap(({ examples }) => examples);
  // The shell itself reads the examples, with their quotes and redirections; a function stands for the program.
  const words = `migctl() { printf '%s\\0' "$@" >&3; printf '\\n' >&3; }\nexec 3>'${told}'\n${lines.join("\n")}\ntrue`;
  execFileSync("bash", ["--norc", "-c", words], { cwd: dir, stdio: ["ignore", "ignore", "ignore"] });
  for (const [n, line] of readFileSync(told, "utf8").trimEnd().split("\n").entries())
    argvs.set(lines[n] ?? "", line.split("\0").slice(0, -1));
  const asks = verbs.map(
    ({ name }) =>
      `ask ${name} ''\nask ${name} -\nask ${name
        .split(" ")
        .map((word, i, all) => (i === all.length - 1 ? word.slice(0, 2) : word))
        .join(" ")}`,
  );
  const ask = `ask() { COMP_WORDS=(migctl "$@"); COMP_CWORD=$#; COMPREPLY=(); _migctl; echo "$*=\${COMPREPLY[*]}"; }`;
  const script = `${await scriptOf("bash")}\n${ask}\n${asks.join("\n")}`;
  const answers = execFileSync("bash", ["--norc", "-c", script], { encoding: "utf8" });
  completions = new Map(
    answers
      .trimEnd()
      .split("\n")
      .map((line) => [line.split("=")[0] ?? "", (line.split("=")[1] ?? "").split(" ")]),
  );
});

describe.each(verbs.map((verb): [string, Verb] => [verb.name, verb]))("%s", (name, verb) => {
  it("has examples that the shell and the verb take", () => {
    for (const example of verb.examples) {
      const argv = argvs.get(example) ?? [];
      const found = findVerb(verbs, argv);
      expect([example, found?.verb.name]).toEqual([example, name]);
      expect(() => verb.check(found?.rest ?? [])).not.toThrow();
    }
  });

  it("tells its exit codes, and its help fits into 40 columns", () => {
    expect(helpOf(verb)).toMatch(/Exit codes: 0 [^.]*\b2 the command line is wrong/);
    for (const option of Object.keys(verb.options)) expect(helpOf(verb)).toContain(`--${option}`);
    for (const line of fitText(helpOf(verb), 40).split("\n"))
      expect(displayWidth(line)).toBeLessThanOrEqual(40);
  });

  it("takes --json, and for a mistyped option names the nearest", () => {
    const words = (argvs.get(verb.examples[0]) ?? []).slice(name.split(" ").length);
    if (!words.includes("--json")) expect(() => verb.check([...words, "--json"])).not.toThrow();
    expect(() => verb.check([...words, "--jsno"])).toThrow(
      new UsageError("there is no option --jsno; did you mean --json?"),
    );
  });

  it("is completed by the shell, with its options", () => {
    const words = name.split(" ");
    const last = words.at(-1) ?? "";
    expect(completions.get([...words.slice(0, -1), last.slice(0, 2)].join(" "))).toContain(last);
    const options = [...Object.keys(verb.options), "help"].map((option) => `--${option}`).sort();
    expect(completions.get(`${name} -`)).toEqual(options);
  });

  it("has a name whose misspelling leads to it", () => {
    const wrong = `${name.slice(0, -1)}${name.endsWith("x") ? "y" : "x"}`.split(" ");
    const { message } = unknownVerb(verbs, wrong);
    expect(message).toContain(`"${name}"`);
  });
});

it.each(["zsh", "fish"])("%s completes every verb and option", async (shell) => {
  const script = await scriptOf(shell);
  for (const { name, options } of verbs) {
    for (const word of name.split(" ")) expect(script).toContain(word);
    for (const option of Object.keys(options))
      expect(script).toContain(shell === "fish" ? `-l ${option}` : `--${option}`);
  }
});

it.each([
  [["vm", "lst", "--json"], 2, "usage", 'did you mean "vm ls"?'],
  [["vm", "ls", "--limt", "3", "--json"], 2, "usage", "did you mean --limit?"],
  [["vm", "ls", "--json"], 1, "unreachable", "http://127.0.0.1:1 does not answer"],
])("with --json what went wrong is JSON on stderr: %j", async (args, code, word, problem) => {
  const said = await run(args, { env: { MIG_URL: "http://127.0.0.1:1" } });
  expect([said.code, said.out]).toEqual([code, ""]);
  expect(JSON.parse(said.err)).toEqual({ error: { code: word, message: expect.stringContaining(problem) } });
});

it("a family alone, and help before a verb, are answered", async () => {
  expect(await run(["vm"])).toMatchObject({ code: 2, err: expect.stringContaining('"vm ls"') });
  expect(await run(["vm", "--help"])).toMatchObject({
    code: 0,
    out: expect.stringMatching(/vm ls\n(?!.*pool ls)/s),
  });
  expect(await run(["help", "vm", "drain"])).toMatchObject({
    code: 0,
    out: expect.stringContaining("--deadline"),
  });
});

it("whoever reads no further, as head, is no error", async () => {
  const line = `set -o pipefail; '${process.execPath}' '${new URL("../bin/migctl.js", import.meta.url).pathname}' --help | true`;
  expect(await run(["-c", line], { file: "bash" })).toMatchObject({ code: 0, err: "" });
});
