import { execFile } from "node:child_process";
import { mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { PRODUCT_VERSION } from "@mig/protocol";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { tellStory } from "./lib/story.ts";

/** The shipped executable, on a machine that has neither Node nor Bun: its PATH holds what a Debian base system has. */
const run = promisify(execFile);
const script = fileURLToPath(new URL("../apps/miglet/scripts/package.mjs", import.meta.url));
const base = [
  "awk",
  "bash",
  "cat",
  "chmod",
  "cp",
  "date",
  "dirname",
  "echo",
  "env",
  "false",
  "grep",
  "head",
  "id",
  "ldd",
];
const more = [
  "ls",
  "mkdir",
  "mv",
  "ps",
  "readlink",
  "rm",
  "sed",
  "setpriv",
  "sh",
  "sleep",
  "tar",
  "timeout",
  "tr",
  "true",
];

describe.skipIf(process.platform !== "linux" || process.arch !== "x64")("the packaged executable", () => {
  let dir: string;
  let program: string;
  let env: { PATH: string; HOME: string };

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), "mig-packaged-"));
    program = join(dir, "miglet-linux-x64");
    await run(process.execPath, [script, "--target", "linux-x64", "--out", dir, "--check"]);
    const bin = await mkdtemp(join(dir, "bin-"));
    for (const name of [...base, ...more]) {
      const { stdout } = await run("sh", ["-c", `command -v ${name}`]);
      if (stdout.startsWith("/")) await symlink(stdout.trim(), join(bin, name));
    }
    env = { PATH: bin, HOME: dir };
  });
  afterAll(() => rm(dir, { recursive: true, force: true }));

  it("needs nothing beside it, says what it is, and reads no .env of where it is started", async () => {
    const cwd = await mkdtemp(join(dir, "cwd-"));
    await writeFile(join(cwd, ".env"), "MIGLET_VM_ID=from-dot-env\nMIGLET_POOL_ID=from-dot-env\n");
    await writeFile(join(cwd, "bunfig.toml"), "this is not toml");
    const alone = { cwd, env: { ...env, MIGLET_METADATA_SOURCE: "none" } };
    expect((await run(program, ["--version"], alone)).stdout).toBe(`${PRODUCT_VERSION}\n`);
    expect((await run(program, ["--help"], alone)).stdout).toContain("miglet check");
    const refused = await run(program, ["config"], alone).catch(
      (error: { code: number; stderr: string }) => error,
    );
    expect(refused).toMatchObject({ code: 2, stderr: expect.stringContaining("MIGLET_VM_ID") });
  });

  describe("lives the whole story", () => {
    tellStory(() => ({ agent: { program, env } }));
  });
});
