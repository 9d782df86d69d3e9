import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { packTar, unpackTar } from "./tar.ts";

const files = [
  { name: "manifest.json", content: Buffer.from("{}") },
  { name: "runner/whole-block.log", content: Buffer.alloc(1024, "x") },
  { name: "empty.txt", content: Buffer.alloc(0) },
];

it("is what tar reads, and reads what tar wrote", () => {
  const dir = mkdtempSync(join(process.env["MIG_TEST_RUN_DIR"] ?? tmpdir(), "tar-"));
  const path = join(dir, "a.tar");
  writeFileSync(path, packTar(files, Date.UTC(2026, 10, 21)));
  execFileSync("tar", ["-xf", path, "-C", dir]);
  for (const { name, content } of files) expect(readFileSync(join(dir, name))).toEqual(content);
  const again = join(dir, "b.tar");
  execFileSync("tar", ["--format=ustar", "-cf", again, "-C", dir, ...files.map(({ name }) => name)]);
  expect(unpackTar(readFileSync(again)).map(({ name, content }) => [name, content.length])).toEqual(
    files.map(({ name, content }) => [name, content.length]),
  );
});

it("says so when an archive is cut off, or none", () => {
  const whole = packTar(files, 0);
  expect(unpackTar(whole)).toHaveLength(3);
  expect(() => unpackTar(whole.subarray(0, 1500))).toThrow("no whole tar archive");
  expect(() => unpackTar(Buffer.alloc(700, "x"))).toThrow("no whole tar archive");
  expect(() => unpackTar(Buffer.alloc(0))).toThrow("no whole tar archive");
  expect(() => packTar([{ name: "x".repeat(101), content: Buffer.alloc(0) }], 0)).toThrow("too long");
});
