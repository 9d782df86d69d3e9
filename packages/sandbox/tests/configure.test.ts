import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { InstalledRunner } from "@mig/sandbox";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Lab } from "./lab.ts";

describe("config.sh", () => {
  let lab: Lab;
  let runner: InstalledRunner;
  beforeEach(async () => {
    lab = await Lab.open();
    runner = await lab.install();
  });
  afterEach(() => lab.close());

  const settings = () => readFileSync(join(runner.root, ".runner"), "utf8");

  it("registers, writes its files and prints what the real one prints", async () => {
    const configured = await lab.configure(runner, [
      "--name",
      "vm-a",
      "--labels",
      "gpu,GPU,fast",
      "--ephemeral",
    ]);
    expect(configured.stderr).toBe("");
    expect(await configured.exited).toBe(0);
    expect(configured.stdout.split("\n").slice(11)).toEqual([
      ...["", "# Authentication", "", "", "√ Connected to GitHub"],
      ...["", "# Runner Registration", "", "", "", "", "√ Runner successfully added"],
      ...["", "# Runner settings", "", "", "√ Settings Saved.", "", ""],
    ]);
    expect(settings().startsWith("\uFEFF{\n")).toBe(true);
    const [registered] = await lab.github.runners();
    expect(JSON.parse(settings().slice(1))).toMatchObject({
      agentId: registered?.id,
      agentName: "vm-a",
      gitHubUrl: `${lab.github.webUrl}/acme`,
      ephemeral: true,
      useV2Flow: true,
    });
    expect(settings()).not.toContain("disableUpdate");
    expect(registered?.labels.slice(0, 2)).toEqual(["self-hosted", "Linux"]);
    expect(registered?.labels.slice(3)).toEqual(["gpu", "fast"]);
    expect(statSync(join(runner.root, ".credentials_rsaparams")).mode & 0o777).toBe(0o600);
    expect(existsSync(join(runner.root, ".path"))).toBe(true);
    expect(readFileSync(join(runner.root, ".env"), "utf8")).toContain("LANG=C.UTF-8");

    const again = await lab.configure(runner);
    expect(again.stderr).toContain("Cannot configure the runner because it is already configured.");
    expect(await again.exited).toBe(1);
  });

  it("keeps what .env says already", async () => {
    writeFileSync(join(runner.root, ".env"), "LANG=de_DE.UTF-8\n");
    await lab.configure(runner, ["--name", "vm-b"]);
    expect(readFileSync(join(runner.root, ".env"), "utf8")).toBe("LANG=de_DE.UTF-8\n");
  });

  it.each([
    { args: ["--ephemeral", "true"], environment: {}, ephemeral: false },
    { args: [], environment: { ACTIONS_RUNNER_INPUT_EPHEMERAL: "1" }, ephemeral: false },
    { args: [], environment: { ACTIONS_RUNNER_INPUT_EPHEMERAL: " TRUE " }, ephemeral: true },
  ])("takes $args $environment for ephemeral: $ephemeral", async ({ args, environment, ephemeral }) => {
    const configured = lab.start(
      runner.configPath,
      ["--unattended", "--url", `${lab.github.webUrl}/acme`, "--name", "--token", await lab.token(), ...args],
      environment,
    );
    expect(await configured.exited).toBe(0);
    expect(configured.stderr).toBe("");
    expect(settings().includes('"ephemeral": true')).toBe(ephemeral);
  });

  it.each([
    { args: ["--url", "URL"], says: "Invalid configuration provided for token." },
    { args: ["--token", "x"], says: "Invalid configuration provided for url." },
    { args: ["--url", "URL", "--token", "x"], says: "Http response code: NotFound from 'POST " },
    { args: ["--url", "URL", "--token", "x"], says: "does not indicate success: 404 (Not Found)." },
    { args: ["--url", "URL", "--token", "T", "--runnergroup", "no"], says: 'runner group named "no".' },
    { args: ["--url", "URL", "--token", "T", "--no-default-labels"], says: "without specifying --labels" },
    {
      args: ["--url", "URL", "--foo"],
      says: "Unrecognized command-line input arguments for command configure: 'foo'.",
    },
  ])("refuses $args", async ({ args, says }) => {
    const token = await lab.token();
    const real = args.map((word) =>
      word === "URL" ? `${lab.github.webUrl}/acme` : word === "T" ? token : word,
    );
    const configured = lab.start(runner.configPath, ["--unattended", ...real]);
    expect(await configured.exited).toBe(1);
    expect(configured.stderr).toContain(says);
    expect(existsSync(join(runner.root, ".runner"))).toBe(false);
  });

  it("tries a failing server three times and then gives up", async () => {
    await lab.github.addFault({ path: "runner-registration$", status: 500, times: 3, body: "<html>" });
    const configured = await lab.configure(runner);
    expect(await configured.exited).toBe(1);
    expect(configured.stderr.match(/Http response code: InternalServerError/g)).toHaveLength(3);
  });

  it("refuses root and a name that is taken, and replaces when told to", async () => {
    const asRoot = lab.start(runner.configPath, [], { RUNNER_ALLOW_RUNASROOT: undefined });
    const isRoot = process.getuid?.() === 0;
    expect(await asRoot.exited).toBe(1);
    expect(asRoot.stdout.startsWith("Must not run with sudo\n")).toBe(isRoot);

    await lab.configure(runner, ["--name", "twin"]);
    const other = await lab.install();
    const refused = await lab.configure(other, ["--name", "twin"]);
    expect(await refused.exited).toBe(1);
    expect(refused.stderr).toContain("A runner exists with the same name twin.");
    const replaced = await lab.configure(other, ["--name", "twin", "--replace"]);
    expect(replaced.stdout).toContain(
      "A runner exists with the same name\n√ Successfully replaced the runner\n",
    );
    expect(await lab.github.runners()).toHaveLength(1);
  });

  it("leaves a registration without files when it dies in between", async () => {
    const died = lab.start(
      runner.configPath,
      ["--unattended", "--url", `${lab.github.webUrl}/acme`, "--token", await lab.token(), "--name", "half"],
      { FAKE_CRASH_AFTER: "register" },
    );
    expect(await died.exited).toBe(137);
    expect(existsSync(join(runner.root, ".credentials_rsaparams"))).toBe(true);
    expect(existsSync(join(runner.root, ".runner"))).toBe(false);
    expect(await lab.github.runners()).toMatchObject([{ name: "half", status: "offline" }]);
  });

  it("removes with a remove token, not with a registration token, and forgives missing files", async () => {
    await lab.configure(runner, ["--name", "leaving"]);
    const wrong = lab.start(runner.configPath, ["remove", "--token", await lab.token()]);
    expect(await wrong.exited).toBe(1);
    expect(wrong.stderr).toContain("Failed: Removing runner from the server");
    const removed = lab.start(runner.configPath, ["remove", "--token", await lab.token("remove")]);
    expect(await removed.exited).toBe(0);
    expect(removed.stdout).toContain(
      "√ Runner removed successfully\n√ Removed .credentials\n√ Removed .runner\n",
    );
    expect(await lab.github.runners()).toEqual([]);
    const again = lab.start(runner.configPath, ["remove", "--token", "x"]);
    expect(await again.exited).toBe(0);
    expect(again.stdout).toContain("because config files are missing.");
    expect(again.stdout).toContain("Does not exist. Skipping Removing .runner\n");
  });
});
