import { spawn } from "node:child_process";
import { chown, copyFile, cp, mkdir, readFile, readlink, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { waitFor } from "@mig/kit";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  type DeployLab,
  deploy,
  isRoot,
  isThere,
  openDeployLab,
  packagedName,
  sha256,
} from "./lib/deploy-lab.ts";
import { hasTool, runProgram } from "./lib/run-program.ts";

/** install.sh, into a directory in place of a machine. Under a real systemd: deploy-systemd.test.ts. */
const nobody = 65_534;

let lab: DeployLab;
let dir: string;
let root: string;
let from: string;
beforeEach(async () => {
  lab = await openDeployLab();
  ({ dir, root, from } = lab);
});
afterEach(() => lab[Symbol.asyncDispose]());

describe("install.sh", () => {
  it("places the executable, units and settings, and run again it changes nothing", async () => {
    expect(await lab.install("--from", from)).toMatchObject({ code: 0 });
    const units = "usr/local/lib/systemd/system";
    const first = await lab.tree();
    expect(first).toMatchObject({
      "usr/local/bin/miglet": `755 ${sha256(await readFile(join(from, packagedName)))}`,
      [`${units}/miglet.service`]: expect.stringMatching(/^644 /),
      [`${units}/miglet.slice`]: expect.stringMatching(/^644 /),
      [`${units}/miglet-runner.slice`]: expect.stringMatching(/^644 /),
      [`${units}/miglet-runner-.scope.d/miglet.conf`]: expect.stringMatching(/^644 /),
      "etc/miglet/miglet.yaml": expect.stringMatching(/^640 /),
      "etc/systemd/system/multi-user.target.wants/miglet.service": `/${units}/miglet.service`,
    });
    expect(Object.keys(first).filter((path) => path.includes(".new"))).toEqual([]);
    const again = await lab.install("--from", join(from, packagedName));
    expect(again).toMatchObject({ code: 0, stdout: expect.stringContaining("was installed already") });
    expect(await lab.tree()).toEqual(first);
  });

  it.skipIf(!isRoot || !hasTool("systemd-sysusers"))(
    "makes the users and directories of an image (needs root and systemd-sysusers)",
    async () => {
      await lab.install("--from", from);
      const passwd = await readFile(join(root, "etc/passwd"), "utf8");
      const uid = Number(/^actions-runner:[^:]*:(\d+):/m.exec(passwd)?.[1]);
      expect(uid).toBeGreaterThan(0);
      const look = async (path: string) => {
        const { mode, uid } = await stat(join(root, path));
        return `${(mode & 0o7777).toString(8)} ${uid}`;
      };
      expect(await look("var/lib/miglet")).toBe("711 0");
      expect(await look("etc/miglet")).toBe("750 0");
      expect(await look("opt/miglet/runners")).toBe("755 0");
      expect(await look("opt/actions-runner")).toBe(`755 ${uid}`);
      expect(await look("home/actions-runner")).toBe(`750 ${uid}`);
    },
  );

  it("upgrades under a running program, and leaves the settings and a disabled unit as they are", async () => {
    await lab.install("--from", from);
    const program = join(root, "usr/local/bin/miglet");
    await copyFile("/bin/sleep", program);
    const old = spawn(program, ["600"], { stdio: "ignore" });
    const ended = new Promise((resolve) => old.once("exit", resolve));
    try {
      await waitFor("the old program", async () => (await readlink(`/proc/${old.pid}/exe`)) === program);
      await writeFile(join(root, "etc/miglet/miglet.yaml"), "pool_id: mine\n");
      const link = join(root, "etc/systemd/system/multi-user.target.wants/miglet.service");
      await rm(link);
      await lab.makePackage("second");
      expect(await lab.install("--from", from)).toMatchObject({ code: 0 });
      expect(await readlink(`/proc/${old.pid}/exe`)).toBe(`${program} (deleted)`);
      expect(await readFile(program, "utf8")).toContain("# second");
      expect(await readFile(join(root, "etc/miglet/miglet.yaml"), "utf8")).toBe("pool_id: mine\n");
      await expect(readlink(link)).rejects.toThrow("ENOENT");
    } finally {
      old.kill("SIGKILL");
      await ended;
    }
  });

  it("refuses whatever is not proved, says what to do, and has placed nothing then", async () => {
    await lab.install("--from", from);
    const before = await lab.tree();
    await lab.makePackage("other");
    const url = await lab.serve({ "/miglet": join(from, packagedName) });
    const real = sha256(await readFile(join(from, packagedName)));
    const refused = async (says: string, ...args: string[]): Promise<void> => {
      const { code, stderr } = await lab.install(...args);
      expect({ args, code, stderr }).toMatchObject({ code: 1, stderr: expect.stringContaining(says) });
      expect(stderr.trim().split("\n").length).toBeGreaterThan(1);
      expect(await lab.tree()).toEqual(before);
    };
    await refused("is not what it must be", "--from", from, "--sha256", "0".repeat(64));
    await refused("Give --sha256 with the sum that you know", "--from", `${url}/miglet`);
    await refused("is not what it must be", "--from", `${url}/miglet`, "--sha256", "0".repeat(64));
    await refused("could not be fetched", "--from", `${url}/nothing`, "--sha256", real);
    await refused("correct --from", "--from", join(dir, "nothing"));
    await refused("--block-metadata needs it", "--from", from, "--block-metadata");
    await writeFile(join(from, "SHA256SUMS"), `${real}  something-else\n`);
    await refused("does not name", "--from", from);
    await rm(join(from, "SHA256SUMS"));
    await refused("nobody knows what", "--from", from);
    expect(await lab.install("--frm", from)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("--help"),
    });
    // What is right goes by the same ways.
    expect(await lab.install("--from", `${url}/miglet`, "--sha256", real.toUpperCase())).toMatchObject({
      code: 0,
    });
    expect(await readFile(join(root, "usr/local/bin/miglet"), "utf8")).toContain("# other");
  });

  it("refuses an archive in which a unit was changed", async () => {
    await runProgram("sh", [join(deploy, "bundle.sh"), "--package", from, "--out", dir]);
    await runProgram("tar", ["-xzf", join(dir, `${packagedName}.tar.gz`), "-C", dir]);
    const script = join(dir, "miglet/install.sh");
    await writeFile(join(dir, "miglet/systemd/miglet.service"), "[Service]\nExecStart=/bin/evil\n");
    expect(await runProgram("sh", [script, "--root", root])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("is not what its SHA256SUMS says"),
    });
    expect(await lab.tree()).toEqual({});
  });

  it.skipIf(!isRoot)(
    "makes an image for somebody who is not root, and not this machine (needs root)",
    async () => {
      await chown(root, nobody, nobody);
      const asNobody = { uid: nobody, gid: nobody, cwd: "/" };
      const script = join(dir, "deploy");
      await cp(deploy, script, { recursive: true });
      const image = await runProgram(
        "sh",
        [`${script}/install.sh`, "--root", root, "--from", from],
        asNobody,
      );
      expect(image).toMatchObject({ code: 0, stderr: "" });
      expect((await stat(join(root, "usr/local/bin/miglet"))).uid).toBe(nobody);
      const live = await runProgram("sh", [`${script}/install.sh`, "--from", from], asNobody);
      expect(live).toMatchObject({ code: 1, stderr: expect.stringMatching(/Only root[\s\S]*--root DIR/) });
      await runProgram("chown", ["-R", "0:0", root]);
      const closed = await runProgram(
        "sh",
        [`${script}/install.sh`, "--root", root, "--from", from],
        asNobody,
      );
      expect(closed).toMatchObject({ code: 1, stderr: expect.stringContaining("cannot be written") });
    },
  );

  it("takes everything away again but the settings, and these when asked", async () => {
    await mkdir(join(root, "usr/sbin"), { recursive: true });
    await writeFile(join(root, "usr/sbin/nft"), "", { mode: 0o755 });
    await lab.install("--from", from, "--block-metadata");
    expect(
      await isThere(join(root, "usr/local/lib/systemd/system/miglet.service.d/block-metadata.conf")),
    ).toBe(true);
    await mkdir(join(root, "var/lib/miglet"), { recursive: true });
    await writeFile(join(root, "var/lib/miglet/state.json"), "{}");
    expect(await lab.install("--uninstall")).toMatchObject({ code: 0 });
    const left = Object.keys(await lab.tree()).filter(
      (path) => !/^etc\/(?:passwd|group|g?shadow|\.pwd)/.test(path),
    );
    expect(left.toSorted()).toEqual(["etc/miglet/miglet.yaml", "usr/sbin/nft", "var/lib/miglet/state.json"]);
    expect(await lab.install("--uninstall", "--purge")).toMatchObject({ code: 0 });
    expect(await isThere(join(root, "etc/miglet"))).toBe(false);
    expect(await isThere(join(root, "var/lib/miglet"))).toBe(false);
  });
});
