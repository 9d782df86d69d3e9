import { spawnSync } from "node:child_process";
import {
  mkdtemp,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  statfs,
  truncate,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readFileIfThere, writeFileAtomic } from "@mig/kit";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

/** What memory/ and kit's atomic file need of node:fs/promises. */
let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "mig-probe-"));
});
afterAll(() => rm(dir, { recursive: true, force: true }));
const at = (name: string): string => join(dir, name);
const codeOf = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => "went well",
    (error: NodeJS.ErrnoException) => error.code,
  );

describe("syncing", () => {
  test("works on files and on directories, and is refused on a closed file", async () => {
    const file = await open(at("synced"), "w");
    await file.write("x");
    await file.datasync();
    await file.sync();
    await file.close();
    await expect(file.datasync()).rejects.toThrow();
    const directory = await open(dir, "r");
    await directory.sync();
    await directory.close();
  });

  test.skipIf(process.platform !== "linux" || spawnSync("strace", ["-V"]).status !== 0)(
    "is a system call and no promise of one",
    () => {
      const script = `import { open } from "node:fs/promises";
const file = await open(process.argv.at(-1), "w");
await file.write("x"); await file.datasync(); await file.sync(); await file.close();`;
      const traced = spawnSync(
        "strace",
        [
          "-f",
          "-e",
          "trace=fsync,fdatasync",
          process.execPath,
          "--input-type=module",
          "-e",
          script,
          at("traced"),
        ],
        { encoding: "utf8" },
      );
      expect(traced.stderr).toMatch(/fdatasync\(\d+/);
      expect(traced.stderr).toMatch(/ fsync\(\d+/);
    },
  );
});

describe("files that several write", () => {
  test("appending never overwrites, whatever was written meanwhile and wherever it was read", async () => {
    const one = await open(at("appended"), "a+");
    const two = await open(at("appended"), "a+");
    await one.appendFile("1");
    await two.appendFile("2");
    await one.read(Buffer.alloc(1), 0, 1, 0);
    await one.appendFile("3");
    expect(await readFile(at("appended"), "utf8")).toBe("123");
    await truncate(at("appended"), 1);
    await two.appendFile("4");
    expect(await readFile(at("appended"), "utf8")).toBe("14");
    await Promise.all([one.close(), two.close()]);
  });

  test("a handle opened with w+ appends at its own end and reads at any place", async () => {
    const file = await open(at("segment"), "w+");
    await file.appendFile("one\n");
    const { bytesRead, buffer } = await file.read(Buffer.alloc(8), 0, 8, 0);
    expect(buffer.toString("utf8", 0, bytesRead)).toBe("one\n");
    await file.appendFile("two\n");
    expect(await readFile(at("segment"), "utf8")).toBe("one\ntwo\n");
    await file.close();
  });

  test("a removed file is noticed by its link count, a taken name by EEXIST", async () => {
    const file = await open(at("removed"), "wx");
    expect((await file.stat()).nlink).toBe(1);
    expect(await codeOf(open(at("removed"), "wx"))).toBe("EEXIST");
    await rm(at("removed"));
    expect((await file.stat()).nlink).toBe(0);
    await file.close();
  });
});

describe("replacing a file", () => {
  test("is atomic for whoever reads meanwhile, also for a handle that is open", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.string({ unit: "grapheme" }),
        fc.string({ unit: "grapheme" }),
        async (old, fresh) => {
          await writeFileAtomic(at("state"), old);
          const reader = await open(at("state"), "r");
          await writeFileAtomic(at("state"), fresh);
          expect(await reader.readFile("utf8")).toBe(Buffer.from(old).toString());
          expect(await readFileIfThere(at("state"))).toBe(Buffer.from(fresh).toString());
          await reader.close();
        },
      ),
      { numRuns: 25 },
    );
    expect((await stat(at("state"))).mode & 0o777).toBe(0o600);
    expect((await readdir(dir)).filter((name) => name.endsWith(".tmp"))).toEqual([]);
  });

  test("a name that is a directory is refused and stays", async () => {
    await writeFile(at("file"), "x");
    expect(await codeOf(rename(at("file"), dir))).toMatch(/EISDIR|ENOTEMPTY|EEXIST|EBUSY/);
    expect(await readFile(at("file"), "utf8")).toBe("x");
  });
});

describe("errors of a disk", () => {
  test.skipIf(process.platform !== "linux")("a full one is ENOSPC at the write", async () => {
    const full = await open("/dev/full", "w");
    expect(await codeOf(full.write("x"))).toBe("ENOSPC");
    expect(await codeOf(full.appendFile("x"))).toBe("ENOSPC");
    await full.close();
  });

  test("a missing one is ENOENT, a directory EISDIR, a file in the way ENOTDIR", async () => {
    expect(await codeOf(readFile(at("nothing")))).toBe("ENOENT");
    expect(await codeOf(readFile(dir))).toBe("EISDIR");
    await writeFile(at("in-the-way"), "");
    expect(await codeOf(readFile(at("in-the-way/below")))).toBe("ENOTDIR");
  });
});

test("statfs tells what df tells", async () => {
  const { bsize, blocks, bavail } = await statfs(dir);
  const { stdout } = spawnSync("df", ["-P", "-B1", dir], { encoding: "utf8" });
  const [, size = ""] = (stdout.trim().split("\n").at(-1) ?? "").split(/\s+/);
  expect(bsize * blocks).toBe(Number(size));
  expect(bavail).toBeGreaterThan(0);
});
