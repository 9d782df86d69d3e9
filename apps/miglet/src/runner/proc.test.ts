import { spawn } from "node:child_process";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { waitFor } from "@mig/kit";
import { afterEach, beforeEach, expect, test } from "vitest";
import { allProcesses, findProgram, parseProcStat } from "./proc.ts";

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "mig-proc-"));
});
afterEach(() => rm(root, { recursive: true, force: true }));

test("a name with blanks and parentheses does not shift the fields", () => {
  const fields = Array.from({ length: 40 }, (_, index) => String(index + 4));
  expect(parseProcStat(`7 (a) S 9 (b) S 5 6 ${fields.slice(2).join(" ")}`)).toMatchObject({
    state: "S",
    ppid: 5,
    pgrp: 6,
    startTicks: 22,
  });
});

test.runIf(process.platform === "linux")(
  "without a process table nothing is known, which is not the same as that no Worker runs",
  async () => {
    expect(await allProcesses(root)).toBeUndefined();
    expect(await allProcesses(join(root, "missing"))).toBeUndefined();
    expect((await allProcesses())?.some(({ pid }) => pid === process.pid)).toBe(true);
  },
);

test.runIf(process.platform === "linux")(
  "a program is found by its path, only as the leader of its group",
  async () => {
    const path = join(root, "Runner.Listener");
    await writeFile(path, "#!/bin/sh\nread line\n");
    await chmod(path, 0o755);
    expect(await findProgram(path)).toBeUndefined();
    const child = spawn(path, ["run"], { detached: true, stdio: ["pipe", "ignore", "ignore"] });
    const found = await waitFor("it to be found", () => findProgram(path));
    expect(found.pid).toBe(child.pid);
    child.stdin.end();
    await waitFor("its end", async () => (await findProgram(path)) === undefined);
    const inside = spawn(path, ["run"], { stdio: ["pipe", "ignore", "ignore"] });
    await waitFor("its start", () => inside.pid !== undefined);
    expect(await findProgram(path)).toBeUndefined();
    inside.stdin.end();
  },
);
