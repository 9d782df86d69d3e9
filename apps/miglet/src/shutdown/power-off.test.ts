import { spawn } from "node:child_process";
import { access, chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog, waitFor } from "@mig/kit";
import { afterEach, beforeEach, expect, test } from "vitest";
import { findProgram } from "../runner/proc.ts";
import { powerOff } from "./power-off.ts";

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "mig-power-"));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

const isThere = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

test("a machine on which an unknown runner works is not powered off; when it has ended, it is", async () => {
  const listener = join(dir, "Runner.Listener");
  await writeFile(listener, "#!/bin/sh\nread -r _\n");
  await chmod(listener, 0o755);
  const runner = spawn(listener, { detached: true, stdio: ["pipe", "ignore", "ignore"] });
  const ended = new Promise((resolve) => runner.once("exit", resolve));
  await waitFor("the runner", () => findProgram(listener));
  const off = join(dir, "off");
  await powerOff(["/usr/bin/touch", off], { log: silentLog, unless: listener });
  runner.stdin.end("\n");
  await ended;
  expect(await isThere(off)).toBe(false);
  await powerOff(["/usr/bin/touch", off], { log: silentLog, unless: listener });
  await waitFor("the command", () => isThere(off));
});

test("without a command nothing happens; one that does not exist is only told", async () => {
  await powerOff([], { log: silentLog });
  await powerOff([join(dir, "nothing")], { log: silentLog });
});
