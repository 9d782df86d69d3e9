import { execFile, spawn } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { waitFor } from "@mig/kit";
import { asObject } from "@mig/protocol";
import { createAppKey, freePort, type Github, installRunner, startGithub } from "@mig/sandbox";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse as parseYaml } from "yaml";
import { parseReference, parseSignerReference } from "../apps/controller/src/secrets/reference.ts";

/**
 * docs/operate/github-app.md, run from the top to the bottom: its files are written, its commands run by a shell with the
 * real programs, and what they print is compared with what the page says. Then `migctl github check` when things are
 * not well.
 */
const root = fileURLToPath(new URL("../", import.meta.url));
const migctl = join(root, "apps/cli/bin/migctl.js");

interface Block {
  kind: string;
  text: string;
  line: number;
}

function blocksOf(markdown: string): Block[] {
  return [...markdown.matchAll(/^```([a-z-]+(?: [a-z-]+)*)\n(.*?)^```$/gms)].map((match) => ({
    kind: match[1] ?? "",
    text: match[2] ?? "",
    line: markdown.slice(0, match.index).split("\n").length,
  }));
}

interface Ran {
  code: number;
  out: string;
}

function run(
  program: string,
  args: string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(program, args, { timeout: 60_000, ...options }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === "number" ? error.code : -1;
      resolve({ code, out: stdout + stderr });
    });
  });
}

describe("docs/operate/github-app.md", () => {
  let dir: string;
  let github: Github;
  let adapt: (text: string) => string;
  let env: NodeJS.ProcessEnv;
  const running: ReturnType<typeof spawn>[] = [];
  let blocks: Block[];

  beforeAll(async () => {
    blocks = blocksOf(await readFile(join(root, "docs/operate/github-app.md"), "utf8"));
    dir = await mkdtemp(join(tmpdir(), "mig-github-app-"));
    // Without a public key the stand-in takes every well-formed JWT: this page is about more than one key.
    github = await startGithub({
      appId: 123456,
      pollMs: 1_000,
      permissions: { organization_self_hosted_runners: "write", metadata: "read" },
      runnerGroups: [
        { id: 1, name: "Default" },
        { id: 2, name: "mig", visibility: "selected", allowsPublicRepositories: false },
      ],
    });
    await writeFile(join(dir, "acme-runners.private-key.pem"), createAppKey().privateKeyPem);
    await writeFile(join(dir, "acme-runners.2.private-key.pem"), createAppKey().privateKeyPem);
    const port = await freePort();
    adapt = (text) =>
      text
        .replaceAll("http://127.0.0.1:8080", `http://127.0.0.1:${port}`)
        .replaceAll("127.0.0.1:8080", `127.0.0.1:${port}`)
        .replaceAll(/https:\/\/github\.com\/(acme|labs)\b/g, `${github.webUrl}/$1`)
        .replaceAll(/(?<![\w/])\/(etc|opt|var)\//g, `${dir}/$1/`)
        .replaceAll(/file:\/\/\/(etc|run)\//g, `file://${dir}/$1/`)
        .replaceAll("migctl github check --app", `migctl github check --url http://127.0.0.1:${port} --app`);
    // HOME and PATH only: nothing of this machine's own settings may help.
    env = {
      PATH: `${join(root, "node_modules/.bin")}:${process.env["PATH"] ?? ""}`,
      HOME: dir,
      MIG_GITHUB_API_URL: github.url,
      MIG_LOG_LEVEL: "warn",
      RUNNER_ALLOW_RUNASROOT: "1",
    };
    await installRunner(join(dir, "opt/actions-runner"), { timeFactor: 0.02 });
  });
  afterAll(async () => {
    for (const child of running.reverse()) {
      if (child.exitCode !== null) continue;
      child.kill("SIGTERM");
      await waitFor(
        "a program of the page to end",
        () => child.exitCode !== null || child.signalCode !== null,
      );
    }
    await github.close();
    await rm(dir, { recursive: true, force: true });
  });

  const shellLines: string[] = [];

  async function start(command: string, what: string, isReady: () => Promise<boolean>): Promise<void> {
    const [program = "", ...args] = command.trim().split(/\s+/);
    const child = spawn(join(root, "node_modules/.bin", program), args, {
      env,
      cwd: dir,
      stdio: ["ignore", "pipe", "pipe"],
    });
    running.push(child);
    let said = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (said += String(chunk)));
    await waitFor(
      what,
      async () => {
        if (child.exitCode !== null)
          throw new Error(`${program} ended with ${child.exitCode}:\n${said.slice(-2_000)}`);
        return isReady();
      },
      { timeoutMs: 40_000 },
    );
  }

  it("runs from the top to the bottom", { timeout: 120_000 }, async () => {
    expect(blocks.length).toBeGreaterThan(12);
    let last: Ran = { code: 0, out: "" };
    for (const { kind, text, line } of blocks) {
      const where = `line ${line}`;
      if (kind === "yaml") {
        const name = /^# (\S+)\n/.exec(text)?.[1];
        expect(name, where).toBeDefined();
        const path = adapt(name?.startsWith("/") === true ? (name ?? "") : `/etc/mig/${name}`);
        await mkdir(dirname(path), { recursive: true });
        // Where it names another GitHub than the stand-in, it is judged as it is written.
        await writeFile(
          path,
          name === "stores.yaml" ? text.replaceAll("/etc/mig/", `${dir}/etc/mig/`) : adapt(text),
        );
      } else if (kind === "sh") {
        // Later blocks use the variables of earlier ones; what has run already is not run again.
        const settings = shellLines.filter((one) => /^[A-Z]+=/.test(one)).join("\n");
        last = await run("bash", ["--norc", "-euo", "pipefail", "-c", `${settings}\n${adapt(text)}`], {
          cwd: dir,
          env,
        });
        expect([where, last]).toEqual([where, { code: 0, out: expect.any(String) }]);
        shellLines.push(...adapt(text).split("\n"));
      } else if (kind === "sh serve") {
        const [url] = adapt("http://127.0.0.1:8080").split(" ");
        await start(adapt(text), "the controller to be ready", () =>
          fetch(`${url}/readyz`)
            .then(({ ok }) => ok)
            .catch(() => false),
        );
      } else if (kind === "sh agent") {
        await start(adapt(text), "the agent to start", async () => true);
      } else if (kind === "sh until-idle") {
        await waitFor(
          "the runner to be idle",
          async () => {
            const { out } = await run("bash", ["--norc", "-euc", adapt(text)], { cwd: dir, env });
            return out.startsWith("{") && asObject(JSON.parse(out))?.["runner_state"] === "idle";
          },
          { timeoutMs: 40_000 },
        );
        const runners = await github.runners();
        expect(runners.map(({ groupId, status }) => [groupId, status])).toEqual([[2, "online"]]);
      } else if (kind === "text") {
        expect(shapeOf(last.out), where).toEqual(shapeOf(text));
      } else throw new Error(`${where}: nobody runs blocks of the kind "${kind}"`);
    }
    // What the rotation left behind.
    expect(last.out).toContain("db://github-app/second/2");
    expect(last.out).toContain("second can register runners");
  });

  it("its file of stores is right, to the last reference", async () => {
    const ran = await run(
      "mig-controller",
      ["config", "--json", "--config", join(dir, "etc/mig/stores.yaml")],
      {
        env: { ...env, PATH: env["PATH"], MIG_GITHUB_API_URL: "https://api.github.com" },
      },
    );
    expect([ran.code, ran.out]).toEqual([0, expect.stringContaining("secrets.vault.address")]);
    const text = blocks.find((block) => block.text.startsWith("# stores.yaml"))?.text ?? "";
    const config = parseYaml(text) as { github: { apps: Record<string, string>[] } };
    for (const { key, signer } of config.github.apps) {
      if (key !== undefined) expect(parseReference(key).text).toBe(key);
      if (signer !== undefined) expect(parseSignerReference(signer).text).toBe(signer);
    }
    const page = await readFile(join(root, "docs/operate/github-app.md"), "utf8");
    for (const [, reference = ""] of page.matchAll(
      /^\|[^|]*\| `((?:gcpsm|awssm|vault|k8s|file|env|db):\/\/[^`]+)` \|/gm,
    ))
      expect(parseReference(reference).scheme).toBe(reference.split(":")[0]);
  });

  it("migctl says what is not well, and ends with what the page says", async () => {
    const url = adapt("http://127.0.0.1:8080");
    const check = (...more: string[]): Promise<Ran> =>
      run(process.execPath, [migctl, "github", "check", "--url", url, ...more], { env, cwd: dir });
    const token = ["--token-file", join(dir, "etc/mig/operator.token")];
    await github.suspend("acme", true);
    const wrong = await check(...token, "--app", "acme");
    expect([wrong.code, wrong.out]).toEqual([
      3,
      expect.stringMatching(/^acme cannot .*FAIL {2}installation .*suspended\n +→ /s),
    ]);
    const json = await check(...token, "--json");
    const report = asObject(JSON.parse(json.out)) ?? {};
    expect([json.code, report["ok"], (report["apps"] as unknown[]).length]).toEqual([3, false, 2]);
    await github.suspend("acme", false);
    expect((await check(...token)).code).toBe(0);
    expect(await check()).toEqual({ code: 1, out: expect.stringContaining("--token-file") });
    expect(await check("--token-file", join(dir, "etc/mig/agent.token"))).toMatchObject({ code: 1 });
    expect(await check(...token, "--app", "nobody")).toEqual({
      code: 1,
      out: expect.stringContaining("there is no GitHub App"),
    });
  });
});

describe("migctl github check, the command line", () => {
  it.each([
    [["github", "check", "--help"], 0, "Exit codes: 0 all well"],
    [["--help"], 0, "migctl github check"],
    [["github"], 2, 'There is "github check"'],
    [["github", "chekc"], 2, "there is no command"],
    [["github", "check", "--ap", "x"], 2, "there is no option --ap"],
    [["github", "check", "more"], 2, "Unexpected argument"],
    [["github", "check", "--url", "nowhere"], 2, "--url takes"],
    [["github", "check", "--url", "http://me:secret@127.0.0.1:1"], 2, "must not hold credentials"],
    [["github", "check", "--token-file", "nowhere"], 2, "cannot be read (ENOENT)"],
    [["github", "check", "--url", "http://127.0.0.1:1"], 1, "does not answer"],
  ])("%j → %i %s", async (args, code, told) => {
    const ran = await run(process.execPath, [migctl, ...args]);
    expect([ran.code, ran.out]).toEqual([code, expect.stringContaining(told)]);
  });

  it("what answers may be no controller, or one that wants to be something else", async () => {
    const server = createServer((request, response) => {
      if (request.url?.startsWith("/html") === true) response.end("<html>");
      else response.writeHead(302, { location: "http://127.0.0.1:1/elsewhere" }).end();
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    try {
      const html = await run(process.execPath, [migctl, "github", "check", "--url", `${url}/html`]);
      expect(html).toEqual({ code: 1, out: expect.stringContaining("is no MIG controller") });
      const moved = await run(process.execPath, [migctl, "github", "check", "--url", url]);
      expect(moved).toEqual({ code: 1, out: expect.stringContaining("does not answer") });
    } finally {
      server.close();
    }
  });
});

/** What is compared of a report: verdicts, checks and what they are about; numbers and fingerprints differ. */
function shapeOf(report: string): string[] {
  return report
    .trim()
    .split("\n")
    .map((line) => {
      const [, word, check, rest = ""] = /^ {2}(\w+) +(\w+) +(.*)$/.exec(line) ?? [];
      if (word === undefined) return line;
      const about = /^(?:key|acme)/.test(rest) ? (rest.split(/ |:/)[0] ?? "") : "";
      return `${word} ${check} ${about}`.trim();
    });
}
