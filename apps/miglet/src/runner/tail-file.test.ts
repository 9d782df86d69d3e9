import { appendFile, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";
import { tailFile } from "./tail-file.ts";

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "mig-tail-"));
});
afterEach(() => rm(root, { recursive: true, force: true }));

test("any cuts between writes, reads, shrinks and restarts give each line once and in order", async () => {
  const line = fc.string({ unit: fc.constantFrom("a", "ü", "√", " ", "\r", "x"), maxLength: 30 });
  const action = fc.constantFrom("read" as const, "restart" as const, "shrink" as const);
  await fc.assert(
    fc.asyncProperty(
      fc.array(line, { maxLength: 20 }),
      fc.array(fc.tuple(fc.nat(40), action), { maxLength: 20 }),
      async (lines, steps) => {
        const path = join(await mkdtemp(join(root, "t-")), "out.log");
        const seen: string[] = [];
        const onLine = (text: string): void => void seen.push(text);
        let rest = Buffer.from(lines.map((text) => `${text}\n`).join(""));
        await writeFile(path, "");
        let tail = tailFile({ path, offset: 0, onLine });
        for (const [bytes, what] of [...steps, [rest.length, "read"] as const]) {
          await appendFile(path, rest.subarray(0, bytes));
          rest = rest.subarray(bytes);
          await tail.read();
          if (what === "shrink") await tail.shrink(10);
          if (what === "restart") {
            await tail.close();
            tail = tailFile({ path, offset: tail.offset(), onLine });
          }
        }
        await appendFile(path, rest);
        await tail.read();
        await tail.close();
        expect(seen).toEqual(lines.map((text) => text.replace(/\r$/, "")));
      },
    ),
    { numRuns: 50 },
  );
});

test("a line of three mebibytes is cut, and what follows it is whole", async () => {
  const path = join(root, "out.log");
  await writeFile(path, `${"x".repeat(3 * 1024 * 1024)}\nafter\n`);
  const seen: string[] = [];
  const tail = tailFile({ path, offset: 0, onLine: (text) => seen.push(text) });
  await tail.read();
  expect(seen.map((text) => text.length)).toEqual([64 * 1024, 5]);
  await tail.shrink(1024);
  expect((await stat(path)).size).toBe(0);
  await appendFile(path, "again\n");
  await tail.read();
  expect(seen.at(-1)).toBe("again");
  await tail.close();
});

test("a file that is not there yet, and one that was replaced by a shorter one, are read from the start", async () => {
  const path = join(root, "out.log");
  const seen: string[] = [];
  const tail = tailFile({ path, offset: 0, onLine: (text) => seen.push(text) });
  expect(await tail.read()).toBe(false);
  await writeFile(path, "one\ntwo\n");
  await tail.read();
  await writeFile(path, "x\n");
  await tail.read();
  expect(seen).toEqual(["one", "two", "x"]);
  await tail.close();
});

test("one that was closed opens its file no more", async () => {
  const path = join(root, "out.log");
  await writeFile(path, "one\n");
  const seen: string[] = [];
  const tail = tailFile({ path, offset: 0, onLine: (text) => seen.push(text) });
  await tail.close();
  expect(await tail.read()).toBe(false);
  await tail.shrink(0);
  await tail.close();
  expect(seen).toEqual([]);
});

test("one call reads a bounded part, so that who writes faster than it reads holds nobody up", async () => {
  const path = join(root, "jobs.jsonl");
  await writeFile(path, "y\n".repeat(150_000));
  const lines: string[] = [];
  const tail = tailFile({
    path,
    offset: 0,
    readBytesMax: 64 * 1024,
    onLine: (line) => void lines.push(line),
  });
  expect(await tail.read()).toBe(true);
  expect(lines).toHaveLength(32_768);
  for (let n = 0; n < 4; n += 1) await tail.read();
  expect(lines).toHaveLength(150_000);
  await tail.close();
});
