import { spawn } from "node:child_process";
import { mkdir, readdir, readFile, readlink, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { waitFor } from "@mig/kit";
import { installRunner, startAwsMetadata, startGcpMetadata } from "@mig/sandbox";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type DeployLab, deploy, isRoot, openDeployLab, packagedName, sha256 } from "./lib/deploy-lab.ts";
import { hasTool, type Ran, runProgram } from "./lib/run-program.ts";

/** How the agent and its runner come onto a machine: the archive, the clouds' startup scripts, the image. */
let lab: DeployLab;
let dir: string;
let root: string;
let from: string;
beforeEach(async () => {
  lab = await openDeployLab();
  ({ dir, root, from } = lab);
});
afterEach(() => lab[Symbol.asyncDispose]());

describe.skipIf(!hasTool("curl"))("a startup script (needs curl)", () => {
  let archive: string;
  let sum: string;
  beforeEach(async () => {
    const made = await runProgram("sh", [join(deploy, "bundle.sh"), "--package", from, "--out", dir]);
    archive = join(dir, `${packagedName}.tar.gz`);
    sum = made.stdout.split(" ")[0] ?? "";
    expect(sum).toBe(sha256(await readFile(archive)));
  });

  const scripts = { gcp: "gcp/startup-script.sh", aws: "aws/user-data.sh" } as const;

  it.each(["gcp", "aws"] as const)("of %s installs what is pinned, once, and nothing else", async (cloud) => {
    const url = await lab.serve({ "/miglet.tar.gz": archive });
    const metadata = cloud === "gcp" ? await startGcpMetadata() : await startAwsMetadata();
    const set = (key: string, value: string): void =>
      "setTag" in metadata ? metadata.setTag(key, value) : metadata.setAttribute(key, value);
    const env = { ...process.env, MIGLET_METADATA_ENDPOINT: metadata.url, MIGLET_INSTALL_ROOT: root };
    const start = (): Promise<Ran> => runProgram("sh", [join(deploy, scripts[cloud])], { env });
    try {
      expect(await start()).toMatchObject({ code: 1, stderr: expect.stringContaining("miglet-install-url") });
      set("miglet-install-url", `${url}/miglet.tar.gz`);
      expect(await start()).toMatchObject({ code: 1, stderr: expect.stringContaining("install-sha256") });
      set("miglet-install-sha256", "0".repeat(64));
      expect(await start()).toMatchObject({ code: 1, stderr: expect.stringContaining(sum) });
      expect(await lab.tree()).toEqual({});
      set("miglet-install-sha256", sum);
      set("miglet-install-block-metadata", "false");
      expect(await start()).toMatchObject({ code: 0, stderr: expect.not.stringContaining("miglet:") });
      expect(await readFile(join(root, "usr/local/bin/miglet"), "utf8")).toContain("# first");
      const before = await lab.tree();
      expect(await start()).toMatchObject({ code: 0, stdout: expect.stringContaining("installed already") });
      expect(await lab.tree()).toEqual(before);
    } finally {
      await metadata.close();
    }
  });
});

it("the archive is the same each time it is made", async () => {
  const make = async (out: string): Promise<string> => {
    await runProgram("sh", [join(deploy, "bundle.sh"), "--package", from, "--out", join(dir, out)]);
    return sha256(await readFile(join(dir, out, `${packagedName}.tar.gz`)));
  };
  expect(await make("one")).toBe(await make("two"));
});

it.skipIf(!isRoot || !hasTool("systemd-sysusers"))(
  "a runner for an image is placed unconfigured, and taken out of what it did before the image is (needs root and systemd-sysusers)",
  async () => {
    await lab.install("--from", from);
    await installRunner(join(dir, "runner"), {});
    const archive = join(dir, "runner.tar.gz");
    await runProgram("tar", ["-czf", archive, "-C", join(dir, "runner"), "."]);
    const prepare = (...args: string[]): Promise<Ran> =>
      runProgram("sh", [join(deploy, "image/prepare-runner.sh"), "--root", root, ...args]);
    const sum = sha256(await readFile(archive));
    expect(await prepare("--from", archive, "--sha256", "0".repeat(64))).toMatchObject({ code: 1 });
    expect(await prepare("--from", archive, "--sha256", sum)).toMatchObject({ code: 0 });
    const home = join(root, "opt/actions-runner");
    const { uid } = await stat(join(home, "bin/Runner.Listener"));
    expect(await readFile(join(root, "etc/passwd"), "utf8")).toMatch(
      new RegExp(`^actions-runner:[^:]*:${uid}:`, "m"),
    );
    expect((await readdir(join(root, "opt"))).toSorted()).toEqual(["actions-runner", "miglet"]);
    expect(await prepare("--from", archive, "--sha256", sum)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("has a runner already"),
    });
    for (const leftover of [".runner", ".credentials", ".credentials_rsaparams"])
      await writeFile(join(home, leftover), "{}");
    await mkdir(join(home, "_work/app"), { recursive: true });
    const inside = spawn("sleep", ["600"], { cwd: join(home, "_work"), stdio: "ignore" });
    const ended = new Promise((resolve) => inside.once("exit", resolve));
    await waitFor("it", async () => (await readlink(`/proc/${inside.pid}/cwd`)).endsWith("_work"));
    const busy = await prepare("--seal");
    inside.kill("SIGKILL");
    await ended;
    expect(busy).toMatchObject({ code: 1, stderr: expect.stringContaining("A process works in") });
    expect(await prepare("--seal")).toMatchObject({ code: 0 });
    const left = await readdir(home);
    expect(left.filter((one) => /^\.(?:runner|cred)|^_/.test(one))).toEqual([]);
    expect(left).toContain("config.sh");
  },
);
