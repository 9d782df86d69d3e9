import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";

import { waitFor } from "@mig/kit";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type IdentityLab, openIdentityLab } from "../../controller/tests/identity-lab.ts";
import { displayWidth } from "../src/display-width.ts";
import { helpOf, type Verb } from "../src/verb.ts";
import { verbs } from "../src/verbs/all.ts";
import { bin, openHome } from "./migctl-lab.ts";
import { openTerminal, type Terminal } from "./terminal-lab.ts";
import { type AgentCall, joinVms } from "./vms-lab.ts";

/** Every verb of the table in a pseudo-terminal, against one controller whose data mean harm. */
const dir = mkdtempSync(join(process.env["MIG_TEST_RUN_DIR"] ?? tmpdir(), "migctl-terminal-"));
const keyFile = join(dir, "key");
const { home } = openHome();
/** Blinks, rings, turns the line around, clears the screen by a C1 code; and takes two columns a sign. */
const hostile = "red\u001b[5m\u0007 \u202eback\u202c \u009b2J 日本語のとても長い名前です 🚀 é";
/** A key's name is a line of text; control codes are refused there, and what turns it around is not. */
const wideName = "日本語のとても長い名前です \u202eback\u202c 🚀🚀 é, of the people on call in the night";
const longVm = `vm-${"0123456789-".repeat(9)}end`;
let lab: IdentityLab;
let env: Record<string, string>;
let agent: AgentCall;
const stops: (() => Promise<void>)[] = [];
const widths = [40, 120] as const;
/** What each width may use up. */
const ids = new Map<string, string>();

beforeAll(async () => {
  lab = await openIdentityLab({ atEnd: (stop) => void stops.push(stop) });
  const key = await lab.key({ name: wideName, role: "admin" });
  writeFileSync(keyFile, key);
  env = { HOME: home, MIG_URL: lab.url, MIG_API_KEY: key };
  const vmIds = ["vm-1", "vm-2", longVm];
  agent = await joinVms(lab, vmIds);
  for (const vmId of vmIds) await agent(vmId, "heartbeat", {});
  const event = { type: "error", message: hostile };
  expect((await agent("vm-1", "events", event)).status).toBe(200);
  for (const columns of widths) {
    const made = async (path: string, body: object): Promise<string> =>
      (await lab.api("POST", path, body, key)).body.id;
    const parameters = { reason: hostile };
    ids.set(`command ${columns}`, await made(`vms/${longVm}/commands`, { type: "shutdown", parameters }));
    const selector = { vm_ids: ["vm-2"] };
    ids.set(`fleet ${columns}`, await made("fleet/commands", { selector, type: "drain", parameters }));
    ids.set(`keys ${columns}`, await made("api-keys", { name: wideName, role: "viewer" }));
    ids.set(`join-token ${columns}`, await made("join-tokens", { pool_id: "pool-a" }));
  }
});
afterAll(async () => {
  for (const stop of stops) await stop();
});

/** Answers all that vm-1 is told, until `isOver`. */
async function obey(isOver: () => boolean, success = true): Promise<void> {
  await waitFor("the end of it", async () => {
    for (const { id } of (await agent("vm-1", "commands")).body.commands)
      await agent("vm-1", `commands/${id}/ack`, { stage: "result", success, message: hostile });
    return isOver();
  });
}

/** Where the words that a verb's help asks for do not suffice. */
const more: Readonly<Record<string, readonly string[]>> = {
  "fleet drain": ["--vms", "vm-2"],
  "fleet shutdown": ["--vms", "vm-2", "--force"],
  "fleet command": ["--vms", "vm-2", "--parameters", '{"level":"info"}'],
  "join-token create": ["--pool", "pool-a"],
  "vm set-config": ["--log-level", "warn"],
  "github check": ["--app", "none"],
};

function wordsOf({ name, help }: Verb, columns: number): string[] {
  const family = name.split(" ")[0] ?? "";
  const given = (word: string): string => {
    if (word === "VM") return name === "vm revoke" ? "vm-2" : "vm-1";
    if (word === "ID") return ids.get(`${family} ${columns}`) ?? "pool-a";
    return { URL: lab.url, NAME: wideName, LEVEL: "debug", TYPE: "set_log_level" }[word] ?? "bash";
  };
  const asked = (help.split("\n")[0] ?? "").split(" ").filter((word) => /^[A-Za-z|]+$/.test(word));
  return [...asked.map(given), ...(name === "login" ? ["--token-file", keyFile] : []), ...(more[name] ?? [])];
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: the screen that top takes
const isLive = /\u001b\[\?1049h/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the ones that are looked for
const ours = /\u001b\[(?:[0-9;]*m|[HJK]|\?(?:25|1049)[hl])/g;

function judge(shown: string, columns: number, about: string): void {
  const text = shown.replaceAll(ours, "").replaceAll("^C", "");
  expect(text, `${about}: nothing steers the terminal`).not.toMatch(/[^\P{Cc}\r\n\t]|\p{Cf}/u);
  expect(shown, about).not.toContain("\u001b[5m");
  for (const line of text.split(/[\r\n]+/))
    expect(displayWidth(line), `${about}: ${JSON.stringify(line)}`).toBeLessThanOrEqual(columns);
}

/** As a person who ends with Ctrl-C what does not end. */
async function drive(args: string[], columns: number, more: Record<string, string> = {}): Promise<Terminal> {
  const terminal = openTerminal(args, { columns, env: { ...env, ...more } });
  let last = { length: 0, sinceMs: 0 };
  let isAsked = false;
  await waitFor(
    args.join(" "),
    () => {
      const { length } = terminal.shown;
      const nowMs = performance.now();
      if (length !== last.length) last = { length, sinceMs: nowMs };
      if (!isAsked && length > 0 && nowMs - last.sinceMs > 1_500) {
        isAsked = true;
        terminal.type("\u0003");
      }
      return terminal.code !== undefined;
    },
    { timeoutMs: 20_000 },
  );
  await terminal.ended;
  return terminal;
}

const driven = verbs.filter(({ name }) => name !== "dev" && name !== "completion");

it.each(widths)(
  "every verb in %i columns: no line is wider, nothing that was stored reaches the terminal raw",
  async (columns) => {
    const queue = [...driven];
    const codes: Record<string, number | undefined> = {};
    const seen: Record<string, string> = {};
    const work = async (): Promise<void> => {
      for (let verb = queue.shift(); verb !== undefined; verb = queue.shift()) {
        const args = [...verb.name.split(" "), ...wordsOf(verb, columns)];
        const { shown, code } = await drive(args, columns, columns === 40 ? { NO_COLOR: "1" } : {});
        judge(shown, columns, verb.name);
        if (columns === 40 && !isLive.test(shown)) expect(shown, verb.name).not.toContain("\u001b");
        [codes[verb.name], seen[verb.name]] = [code, shown];
      }
    };
    await Promise.all([work(), work(), work()]);
    // The harm was there to be shown.
    expect(seen["keys ls"]).toContain("日本語のとても長い名前です");
    for (const name of ["command show", "fleet show", "vm show"]) expect(seen[name], name).toContain("red");
    // No name is cut: it is in one line, or in pieces below each other.
    const names = stripVTControlCharacters(seen["vm ls"] ?? "").split("\r\n");
    expect(names.map((line) => line.replace(/^\S* +/, "")).join("") + names.join("")).toContain(longVm);
    // Refused is what another has done before it; a wrong command line is a mistake of this test.
    expect(Object.entries(codes).filter(([, code]) => ![0, 1, 130].includes(code ?? -1))).toEqual([]);
    const refused = Object.entries(codes).filter(([, code]) => code !== 0);
    expect(refused.length, JSON.stringify(refused)).toBeLessThan(8);
  },
  120_000,
);

it("every help in 40 columns, and every --json of a verb that ends: one document, with nothing raw in it", async () => {
  process.env["XDG_CONFIG_HOME"] = home;
  for (const verb of driven) {
    const end = new AbortController();
    const io = { width: Number.POSITIVE_INFINITY, hasColor: false, signal: end.signal };
    const said: string[] = [];
    const out = (text: string): void => {
      said.push(text);
      // What goes on until Ctrl-C has said enough.
      end.abort();
    };
    const target = verb.name === "login" ? [] : ["--url", lab.url, "--token-file", keyFile];
    // As a person would who waits for news, or for an agent, and gives up.
    const patience = setTimeout(() => end.abort(), 2_000);
    const result = await verb
      .run([...wordsOf(verb, 40), ...target, "--json"], { ...io, out })
      .catch((error: Error) => error)
      .finally(() => clearTimeout(patience));
    const text = said.join("");
    if (result instanceof Error) expect([verb.name, result.name, text]).toEqual([verb.name, "ApiError", ""]);
    else if (text !== "" || !end.signal.aborted) {
      const isWhole = !text.includes("\n{");
      for (const one of isWhole ? [text] : text.trim().split("\n"))
        expect(() => JSON.parse(one), `${verb.name}: ${one}`).not.toThrow();
    }
    expect(text, verb.name).not.toMatch(/[^\P{Cc}\n]|\p{Cf}/u);
    expect(helpOf(verb)).toContain("Examples:");
  }
});

describe("one person", () => {
  const at = (columns: number, more: Record<string, string> = {}) => ({ columns, env: { ...env, ...more } });

  it("sees colours, unless NO_COLOR or a dumb terminal", async () => {
    const bold = "\u001b[1m";
    expect((await drive(["vm", "ls"], 120)).shown).toContain(bold);
    expect((await drive(["vm", "ls"], 120, { NO_COLOR: "1" })).shown).not.toContain("\u001b");
    expect((await drive(["vm", "ls"], 120, { TERM: "dumb" })).shown).not.toContain("\u001b");
    const piped = openTerminal([], { ...at(120), line: `'${process.execPath}' '${bin}' vm ls | cat` });
    expect([await piped.ended, piped.shown]).toEqual([0, expect.not.stringContaining("\u001b")]);
  });

  it("waits for a drain that is done, and for one that fails", async () => {
    for (const [success, code] of [
      [true, 0],
      [false, 4],
    ] as const) {
      const args = ["vm", "drain", "vm-1", "--reason", hostile, "--deadline", "10m", "--wait"];
      const terminal = openTerminal(args, at(40));
      await obey(() => terminal.code !== undefined, success);
      expect([await terminal.ended, terminal.shown]).toEqual([
        code,
        expect.stringMatching(success ? /\rdrain succeeded/ : /\rdrain failed/),
      ]);
      judge(terminal.shown, 40, "vm drain --wait");
    }
  });

  it("stops waiting by Ctrl-C or --timeout, and is told that the order stands", async () => {
    const args = ["vm", "shutdown", "vm-1", "--after-job", "--wait"];
    const stopped = openTerminal(args, at(40));
    await waitFor("the line", () => /shutdown pending/.test(stopped.shown));
    stopped.type("\u0003");
    expect([await stopped.ended, stopped.shown]).toEqual([130, expect.stringContaining("the order stands")]);
    judge(stopped.shown, 40, "Ctrl-C");
    const late = openTerminal([...args, "--timeout", "100ms"], at(40));
    expect([await late.ended, late.shown]).toEqual([8, expect.stringContaining("command cancel")]);
  });

  it("looks at top, makes the window wider and narrower, and has the terminal back after Ctrl-C", async () => {
    const line = `'${process.execPath}' '${bin}' top; echo "code $?"; stty -a | grep -o -- '-\\?icanon\\|-\\?echo ' | tr '\\n' ' '`;
    const terminal = openTerminal([], { ...at(40), line });
    await waitFor("the frame", () => terminal.shown.includes("q quits"));
    const narrow = terminal.shown;
    judge(narrow, 40, "top");
    await terminal.resize(120);
    await waitFor("a wide frame", () => terminal.shown.slice(narrow.length).includes("PROBLEM"));
    const wide = terminal.shown;
    judge(wide.slice(narrow.length), 120, "top, wider");
    await terminal.resize(30);
    const isRedrawn = (): boolean => terminal.shown.slice(wide.length).includes("\u001b[H");
    await waitFor("a narrow frame", isRedrawn);
    terminal.type("\u0003");
    await terminal.ended;
    judge(terminal.shown.slice(wide.length).split("code ")[0] ?? "", 30, "top, narrower");
    const after = terminal.shown.slice(terminal.shown.lastIndexOf("\u001b[?25h"));
    expect(after.startsWith("\u001b[?25h\u001b[?1049lcode 0\r\nicanon echo"), after).toBe(true);
  });
});
