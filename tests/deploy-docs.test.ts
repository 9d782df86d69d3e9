import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { asObject } from "@mig/protocol";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse } from "yaml";
import { exitCodes } from "../apps/miglet/src/boot/exit-codes.ts";
import { settingsTable } from "../apps/miglet/src/boot/settings-table.ts";
import { hasTool, runProgram } from "./lib/run-program.ts";

/** What the operator's document and the examples say, tried by whoever reads it: the agent, cloud-init, terraform, sh. */
const root = dirname(dirname(fileURLToPath(import.meta.url)));
const deploy = join(root, "apps/miglet/deploy");
const read = (path: string): Promise<string> => readFile(join(root, path), "utf8");

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "mig-deploy-"));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

describe("settings in what is shipped", () => {
  const accepted = async (yaml: string): Promise<Record<string, unknown>> => {
    const path = join(dir, "miglet.yaml");
    await writeFile(path, yaml);
    const args = ["config", "--json", "--config", path, "--metadata.source", "none", "--vm_id", "vm-1"];
    const { code, stdout, stderr } = await runProgram(
      process.execPath,
      [join(root, "apps/miglet/bin/miglet.js"), ...args],
      { env: { PATH: process.env["PATH"] } },
    );
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    return asObject(JSON.parse(stdout)) ?? {};
  };
  const needed = 'pool_id: linux\ncontroller: { endpoint: "http://127.0.0.1:1" }\n';

  it("miglet.yaml lacks only what nobody can know", async () => {
    const settings = await accepted(`${needed}${await readFile(join(deploy, "miglet.yaml"), "utf8")}`);
    expect(settings["runner.user"]).toMatchObject({ value: "actions-runner", source: "file" });
    expect(settings["runner.scope"]).toMatchObject({ value: "systemd" });
    // What is commented out is right as well.
    const all = (await readFile(join(deploy, "miglet.yaml"), "utf8")).replaceAll(
      /^( *)# ((?:\w+:| {2}).*)$/gm,
      "$1$2",
    );
    const full = await accepted(all.replace("…", "0".repeat(64)));
    expect(full["shutdown.command"]).toMatchObject({ value: ["systemctl", "poweroff"] });
    expect(full["runner.version"]).toMatchObject({ value: "2.336.0" });
  });

  it("cloud-init's user data", async () => {
    const content = asObject(parse(await readFile(join(deploy, "cloud-init/user-data.yaml"), "utf8")));
    const files = (content?.["write_files"] ?? []) as {
      path: string;
      permissions: string;
      content: string;
    }[];
    const settings = files.find(({ path }) => path === "/etc/miglet/miglet.yaml");
    expect(await accepted(settings?.content ?? "")).toMatchObject({
      "controller.auth.token_path": { value: files.find(({ content }) => content === "AGENT-TOKEN")?.path },
    });
    expect(files.find(({ content }) => content === "AGENT-TOKEN")?.permissions).toBe("0600");
    const [command] = (content?.["runcmd"] ?? []) as string[][];
    const [shell, flags, script = "", url, sum] = command ?? [];
    expect([shell, flags, url, sum?.length]).toEqual(["sh", "-euc", expect.stringContaining("https://"), 64]);
    // Nothing of the archive is run before its sum is checked.
    expect(script.indexOf("sha256sum --check")).toBeLessThan(script.indexOf("install.sh"));
    expect(script.indexOf("sha256sum --check")).toBeGreaterThan(0);
    await writeFile(join(dir, "runcmd.sh"), `#!/bin/sh\n${script}`);
    expect(await runProgram("sh", ["-n", join(dir, "runcmd.sh")])).toMatchObject({ code: 0, stderr: "" });
  });

  it("the operator's document", async () => {
    const blocks = fenced(await read("docs/operate/miglet.md"), "yaml");
    expect(blocks.length).toBeGreaterThanOrEqual(2);
    const [first = "", ...rest] = blocks;
    await accepted(first);
    // They say "beside the rest".
    for (const block of rest) await accepted(`${needed}${block}`);
  });

  it("the templates name settings", async () => {
    const text = await read("docs/operate/miglet.md");
    const known = Object.keys(settingsTable).map((key) => key.replaceAll(/[._]/g, "-"));
    const named = fenced(text, "hcl").flatMap((block) => [...block.matchAll(/^ +miglet-([a-z0-9-]+) += /gm)]);
    const wrong = named
      .map(([, name = ""]) => name)
      .filter((name) => !name.startsWith("install-") && !known.includes(name));
    expect(named.length).toBeGreaterThan(8);
    expect(wrong).toEqual([]);
  });
});

const fenced = (text: string, language: string): string[] =>
  [...text.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, "gm"))].map(
    ([, block = ""]) => block,
  );

it.skipIf(!hasTool("cloud-init"))("cloud-init takes its user data (needs cloud-init)", async () => {
  const ran = await runProgram("cloud-init", ["schema", "-c", join(deploy, "cloud-init/user-data.yaml")]);
  expect(ran).toMatchObject({ code: 0, stdout: expect.stringContaining("Valid cloud-config") });
});

it.skipIf(!hasTool("terraform"))(
  "the templates are written as terraform writes them (needs terraform)",
  async () => {
    for (const input of fenced(await read("docs/operate/miglet.md"), "hcl"))
      expect(await runProgram("terraform", ["fmt", "-check", "-diff", "-"], { input })).toMatchObject({
        code: 0,
      });
  },
);

describe("docs/operate/miglet.md", () => {
  it("tells of every exit code and of every file that is installed", async () => {
    const text = await read("docs/operate/miglet.md");
    const codes = [...text.matchAll(/^\| ([\d, ]+) \|/gm)].flatMap(([, cell = ""]) => cell.split(", "));
    expect(codes.toSorted()).toEqual(Object.keys(exitCodes).toSorted());
    const script = await readFile(join(deploy, "install.sh"), "utf8");
    const placed = [...script.matchAll(/^((?:usr|etc)\/\S+) +systemd\//gm)].map(([, path = ""]) => path);
    expect(placed.length).toBeGreaterThanOrEqual(8);
    const unitsPath = "usr/local/lib/systemd/system/";
    const asTold = (path: string): string =>
      path.startsWith(unitsPath)
        ? path.slice(unitsPath.length).replace(/\.scope\.d\/.*/, ".scope.d/")
        : `/${path}`;
    const untold = placed.filter((path) => !text.includes(asTold(path)));
    expect(untold).toEqual([]);
  });

  it("has commands that there are, and that a shell can read", async () => {
    const agent = await runProgram(process.execPath, [join(root, "apps/miglet/bin/miglet.js"), "--help"]);
    const blocks = fenced(await read("docs/operate/miglet.md"), "sh").join("");
    const commands = [...blocks.matchAll(/^miglet [a-z]+/gm)].map(([command]) => command);
    expect(commands.length).toBeGreaterThanOrEqual(3);
    expect(commands.filter((command) => !agent.stdout.includes(`${command} `))).toEqual([]);
    const install = await runProgram("sh", [join(deploy, "install.sh"), "--help"]);
    const options = [...blocks.matchAll(/install\.sh (--[a-z-]+)/g)].map(([, option = ""]) => option);
    expect(options.filter((option) => !install.stdout.includes(option))).toEqual([]);
    for (const input of fenced(await read("docs/operate/miglet.md"), "sh"))
      expect(await runProgram("sh", ["-n", "-s"], { input })).toMatchObject({ code: 0, stderr: "" });
  });
});
