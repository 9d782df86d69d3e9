import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, expect, it } from "vitest";

/** `migctl dev` as a person runs it, which is also what `npm start` runs. */
const root = fileURLToPath(new URL("../../../", import.meta.url));
const made: string[] = [];
afterEach(async () => {
  for (const dir of made.splice(0)) await rm(dir, { recursive: true, force: true, maxRetries: 5 });
});

function migctl(args: string[], cwd = root): Promise<{ code: number; out: string }> {
  return new Promise((resolve) => {
    const bin = join(root, "apps/cli/bin/migctl.js");
    execFile(process.execPath, [bin, ...args], { cwd, timeout: 55_000 }, (error, stdout, stderr) =>
      resolve({
        code: typeof error?.code === "number" ? error.code : error === null ? 0 : -1,
        out: stdout + stderr,
      }),
    );
  });
}

it("tells the whole life, also in the directory that npm start uses, inside the repository", async () => {
  const dir = join(".mig", `test-${process.pid}`);
  made.push(join(root, dir));
  const { code, out } = await migctl(["dev", "--once", "--vms", "2", "--dir", dir]);
  expect(out).toMatch(/vm-1 +says vm_started/);
  expect(out).toMatch(/vm-2 +runs job build of acme\/app/);
  expect(out.match(/the job is over: succeeded/g)).toHaveLength(2);
  expect(out.match(/has said its last word: terminated/g)).toHaveLength(2);
  expect(code).toBe(0);
});

it("empties no directory that it has not made", async () => {
  const dir = await mkdtemp(join(tmpdir(), "mig-dev-"));
  made.push(dir);
  await mkdir(join(dir, "precious"));
  await writeFile(join(dir, "precious", "thesis.txt"), "words");
  const { code, out } = await migctl(["dev", "--once", "--dir", dir]);
  expect([code, out]).toEqual([1, expect.stringContaining("holds files that migctl dev has not made")]);
});

it("a port whose owner says nothing does not hold it up; with --json each line is an object", async () => {
  const taken = createServer().listen(0, "127.0.0.1");
  await once(taken, "listening");
  const { port } = taken.address() as AddressInfo;
  const dir = await mkdtemp(join(tmpdir(), "mig-dev-"));
  made.push(dir);
  const { code, out } = await migctl([
    "dev",
    "--json",
    "--once",
    "--port",
    String(port),
    "--dir",
    join(dir, "d"),
  ]);
  taken.close();
  const told = out
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(code).toBe(1);
  for (const one of told)
    expect(one).toEqual({ seconds: expect.any(Number), who: expect.any(String), what: expect.any(String) });
  expect(told.at(-1)).toMatchObject({ who: "dev", what: expect.stringContaining("stops: ") });
});

it.each([
  [["dev", "--vms", "0"], "--vms takes"],
  [["dev", "--frobnicate"], "--frobnicate"],
  [["deploy"], 'there is no command "deploy"'],
])("%j is a usage error", async (args, message) => {
  const { code, out } = await migctl(args);
  expect([code, out]).toEqual([2, expect.stringContaining(message)]);
});
