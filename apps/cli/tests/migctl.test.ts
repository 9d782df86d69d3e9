import { spawn } from "node:child_process";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { waitFor } from "@mig/kit";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type IdentityLab, openIdentityLab } from "../../controller/tests/identity-lab.ts";
import { documentVerbs } from "../src/document.ts";
import { verbs } from "../src/verbs/all.ts";
import { bin, openHome } from "./migctl-lab.ts";

let lab: IdentityLab;
let key: string;
const stops: (() => Promise<void>)[] = [];
const { home, run } = openHome();
const longName = `a-vm-with-a-long-name-${"0123456789".repeat(4)}`;

beforeAll(async () => {
  lab = await openIdentityLab({ atEnd: (stop) => void stops.push(stop) });
  key = await lab.key({ role: "admin" });
  for (const vmId of ["vm-1", longName])
    await lab.api("POST", `vms/${vmId}/commands`, { type: "set_log_level", parameters: { level: "debug" } });
});
afterAll(async () => {
  for (const stop of stops) await stop();
});

const json = async (...args: string[]) => {
  const { code, out, err } = await run([...args, "--json"]);
  expect([args.join(" "), code, err]).toEqual([args.join(" "), 0, ""]);
  return JSON.parse(out);
};

describe("login", () => {
  it("refuses a wrong key and keeps nothing of it", async () => {
    const { code, err } = await run(["login", lab.url], { stdin: "mgk_wrong\n" });
    expect([code, err]).toEqual([1, expect.stringContaining("migctl login")]);
    expect((await run(["vm", "ls", "--profile", "default"])).code).toBe(2);
  });

  it("keeps a good key for the owner's eyes only, and further profiles beside it", async () => {
    expect((await run(["login", lab.url], { stdin: `${key}\n` })).code).toBe(0);
    const path = join(home, ".config/mig/profiles.yaml");
    expect(statSync(path).mode & 0o777).toBe(0o600);
    const viewer = await lab.key({ role: "viewer" });
    expect((await run(["login", lab.url, "--profile", "look"], { stdin: viewer })).out).not.toContain(viewer);
    expect((await run(["vm", "drain", "vm-1"])).code).toBe(1);
    expect((await run(["keys", "ls", "--profile", "default"])).code).toBe(0);
    await run(["login", lab.url], { stdin: key });
    expect(readFileSync(path, "utf8")).toContain(viewer);
  });

  it("the environment wins, and the profile's key goes to no other controller", async () => {
    const nobody = { MIG_URL: lab.url.replace("127.0.0.1", "localhost") };
    expect((await run(["vm", "ls"], { env: nobody })).err).toContain("migctl login");
    expect((await run(["vm", "ls"], { env: { ...nobody, MIG_API_KEY: key } })).code).toBe(0);
    const gone = await run(["vm", "ls"], { env: { MIG_URL: "http://127.0.0.1:1" } });
    expect([gone.code, gone.err]).toEqual([1, expect.stringContaining("http://127.0.0.1:1 does not answer")]);
  });
});

it("a key that is typed into a terminal is not shown", async () => {
  const { home: other } = openHome();
  const line = `'${process.execPath}' '${bin}' login ${lab.url}`;
  const child = spawn("script", ["-qec", line, "/dev/null"], {
    env: { PATH: process.env["PATH"], HOME: other },
  });
  let shown = "";
  child.stdout.on("data", (data: Buffer) => {
    shown += data.toString();
  });
  await waitFor("the prompt", () => shown.includes("API key: "));
  child.stdin.write(`${key}\r`);
  await waitFor("the end", () => child.exitCode !== null);
  expect([child.exitCode, shown]).toEqual([0, expect.stringContaining("Logged in")]);
  expect(shown).not.toContain(key.slice(4, 16));
});

describe("verbs", () => {
  it("orders, shows and takes back a command; the log knows and is whole", async () => {
    const { id } = await json("vm", "drain", "vm-1");
    expect((await json("command", "ls", "--vm", "vm-1", "--type", "drain")).commands).toHaveLength(1);
    expect(await json("command", "show", id)).toMatchObject({ id, state: "pending" });
    expect(await json("command", "cancel", id)).toMatchObject({ state: "cancelled" });
    const again = await run(["command", "cancel", id]);
    expect([again.code, again.err]).toEqual([1, expect.stringContaining("it is cancelled")]);
    expect((await json("audit", "ls", "--action", "command.cancel")).entries).toHaveLength(1);
    expect(await json("audit", "verify")).toMatchObject({ ok: true });
    const exported = (await run(["audit", "export"])).out.trim().split("\n");
    expect(exported.length).toBeGreaterThan(3);
    expect(exported.every((line) => typeof JSON.parse(line).hash === "string")).toBe(true);
  });

  it("looks at VMs, pools and organizations", async () => {
    expect((await json("vm", "ls")).vms).toHaveLength(2);
    expect((await json("vm", "ls", "--limit", "1")).vms).toHaveLength(1);
    expect(await json("vm", "show", "vm-1")).toMatchObject({ vm_id: "vm-1" });
    expect((await json("vm", "events", "vm-1")).events).toEqual([]);
    expect((await run(["vm", "watch", "vm-1", "--once"])).out).toMatch(/^\d\d:\d\d:\d\d vm-1 /m);
    expect((await json("pool", "ls")).pools).toHaveLength(2);
    expect(await json("pool", "show", "pool-a")).toMatchObject({ org_id: "acme" });
    expect((await json("org", "ls")).orgs).toHaveLength(2);
    expect((await json("vm", "shutdown", "vm-1", "--force")).parameters).toEqual({ force: true });
  });

  it("makes and ends keys, enrolment tokens and a VM's identity", async () => {
    const made = await json("keys", "create", "ci", "--role", "operator", "--orgs", "acme");
    expect(made).toMatchObject({ role: "operator", orgs: ["acme"], key: expect.stringMatching(/^mgk_/) });
    await json("keys", "revoke", made.id);
    expect((await run(["keys", "ls"])).out).toMatch(new RegExp(`${made.id} .*revoked`));
    const token = await json("join-token", "create", "--pool", "pool-a", "--uses", "2");
    expect((await lab.machine("vm-join").join(token.token)).status).toBe(200);
    expect((await run(["join-token", "ls"])).out).toMatch(new RegExp(`${token.id} .*1/2`));
    await json("join-token", "revoke", token.id);
    expect((await run(["vm", "revoke", "vm-join"])).out).toContain("join-token create");
  });

  it.each([
    [["vm", "show"], "vm show takes VM"],
    [["vm", "lst"], '"vm ls"'],
    [["vm", "ls", "--nope"], "--nope"],
    [["vm", "ls", "--limit", "0"], "--limit"],
    [["join-token", "create"], "--pool"],
    [["completion", "csh"], "bash, zsh, fish"],
  ])("%j is a wrong command line", async (args, problem) => {
    const { code, err } = await run(args);
    expect([code, err]).toEqual([2, expect.stringContaining(problem)]);
  });
});

describe("completion", () => {
  it("bash completes verbs, what follows them, and options", async () => {
    const script = (await run(["completion", "bash"])).out;
    const complete = async (...words: string[]) => {
      const last = words.length - 1;
      const ask = `${script}\nCOMP_WORDS=(${words.map((word) => `'${word}'`).join(" ")}); COMP_CWORD=${last}; _migctl; echo "\${COMPREPLY[@]}"`;
      return (await run(["-c", ask], { file: "bash" })).out.trim().split(" ");
    };
    expect(await complete("migctl", "comm")).toEqual(["command"]);
    expect(await complete("migctl", "command", "")).toEqual(["cancel", "ls", "show"]);
    expect(await complete("migctl", "vm", "shutdown", "vm-1", "--f")).toEqual(["--force"]);
    expect(await complete("migctl", "vm", "ls", "--po")).toEqual(["--pool"]);
  });
});

it("docs/operate/migctl.md is what the verbs say; if not: node scripts/document-migctl.mjs", () => {
  const path = fileURLToPath(new URL("../../../docs/operate/migctl.md", import.meta.url));
  expect(readFileSync(path, "utf8")).toBe(documentVerbs(verbs));
});
