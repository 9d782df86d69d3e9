import { type ChildProcess, type SpawnOptions, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, open, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { waitFor } from "@mig/kit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isBun, lives } from "./start-probe.ts";

/**
 * What runner/launch.ts and runner/process.ts need of child_process, on the runtime that runs this test. A runner that is
 * in the wrong group, or that inherits too much, would be killed with its job or outlive its agent in the wrong way.
 */
const isLinux = process.platform === "linux";
const isRoot = process.getuid?.() === 0;
let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "mig-probe-"));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const endOf = async (child: ChildProcess): Promise<unknown> => {
  const [code, signal] = await once(child, "exit");
  return { code, signal };
};
const shell = (script: string, options: SpawnOptions = {}): string =>
  spawnSync("sh", ["-c", script], { encoding: "utf8", ...options, stdio: ["ignore", "pipe", "inherit"] })
    .stdout;

describe.skipIf(!isLinux)("a detached child", () => {
  test("leads a group and a session of its own, and a signal to the group ends all of it", async () => {
    const child = spawn("sh", ["-c", "sleep 60 & echo $!; wait"], {
      detached: true,
      stdio: ["ignore", "pipe", "ignore"],
    });
    const sleeper = Number(String((await once(child.stdout, "data"))[0]));
    const stat = (await readFile(`/proc/${sleeper}/stat`, "utf8")).split(" ");
    expect(stat.slice(4, 6)).toEqual([String(child.pid), String(child.pid)]);
    const ended = endOf(child);
    process.kill(-(child.pid ?? 0), "SIGKILL");
    expect(await ended).toEqual({ code: null, signal: "SIGKILL" });
    await waitFor("the end of the sleeper", async () => !(await lives(sleeper)));
  });

  test("is hit alone by a signal to its number", async () => {
    const child = spawn("sh", ["-c", "sleep 60 & echo $!; wait"], {
      detached: true,
      stdio: ["ignore", "pipe", "ignore"],
    });
    const sleeper = Number(String((await once(child.stdout, "data"))[0]));
    const ended = endOf(child);
    process.kill(child.pid ?? 0, "SIGINT");
    expect(await ended).toEqual({ code: null, signal: "SIGINT" });
    expect(await lives(sleeper)).toBe(true);
    process.kill(sleeper, "SIGKILL");
  });

  test("a signal to nobody throws ESRCH", () => {
    expect(() => process.kill(-0x3ffffffe, "SIGKILL")).toThrow(expect.objectContaining({ code: "ESRCH" }));
  });
});

describe("the end of a child", () => {
  test("is told by its code or its signal, after `spawn`", async () => {
    const seen: unknown[] = [];
    const child = spawn("sh", ["-c", "exit 7"], { stdio: "ignore" });
    child.on("spawn", () => seen.push("spawn"));
    child.on("exit", (...end) => seen.push(end));
    await once(child, "close");
    expect(seen).toEqual(["spawn", [7, null]]);
    const killed = spawn("sh", ["-c", "kill -TERM $$"], { stdio: "ignore" });
    expect(await endOf(killed)).toEqual({ code: null, signal: "SIGTERM" });
  });

  test("is not told when it was only stopped", async () => {
    const child = spawn("sh", ["-c", "kill -STOP $$; exit 5"], { stdio: "ignore" });
    let hasExited = false;
    child.on("exit", () => {
      hasExited = true;
    });
    await waitFor("its stop", async () => /\) T /.test(await readFile(`/proc/${child.pid}/stat`, "utf8")));
    expect(hasExited).toBe(false);
    const ended = endOf(child);
    child.kill("SIGCONT");
    expect(await ended).toEqual({ code: 5, signal: null });
  });
});

describe("a child that cannot be started", () => {
  const failureOf = async (program: string, options: SpawnOptions = {}): Promise<string> => {
    try {
      const child = spawn(program, [], { stdio: "ignore", ...options });
      const [error] = await once(child, "error");
      return `error ${(error as NodeJS.ErrnoException).code} ${child.pid}`;
    } catch (error) {
      return `${(error as NodeJS.ErrnoException).code} ${(error as { pid?: number }).pid}`;
    }
  };

  test("is an `error` with its code and no pid, when program, directory or permission is missing", async () => {
    const path = join(dir, "not-executable");
    await writeFile(path, "#!/bin/sh\n", { mode: 0o644 });
    expect(await failureOf(join(dir, "nothing"))).toMatch("ENOENT undefined");
    expect(await failureOf("true", { cwd: join(dir, "nothing") })).toMatch("ENOENT undefined");
    expect(await failureOf(path)).toMatch("EACCES undefined");
  });

  test("throws at once, when what it is given is too large or its directory is a file", () => {
    expect(() => spawn("true", [], { env: { BIG: "x".repeat(140_000) } })).toThrow(
      expect.objectContaining({ code: "E2BIG" }),
    );
    expect(() => spawn("true", [], { cwd: "/etc/hostname" })).toThrow(
      expect.objectContaining({ code: "ENOTDIR" }),
    );
  });

  // Bun starts what the kernel starts; Node does as a shell does. The runner's scripts all begin with their interpreter.
  test("a script without an interpreter: run by sh on Node, refused on Bun", async () => {
    const path = join(dir, "no-interpreter");
    await writeFile(path, "exit 3\n");
    await chmod(path, 0o755);
    if (isBun) expect(() => spawn(path)).toThrow(expect.objectContaining({ code: "ENOEXEC" }));
    else expect(await endOf(spawn(path))).toEqual({ code: 3, signal: null });
  });
});

describe.skipIf(!isLinux)("what a child inherits", () => {
  test("three descriptors, and none of a file or socket that the agent has open", async () => {
    const file = await open(join(dir, "secret"), "w");
    try {
      const own = shell("ls -l /proc/$$/fd");
      expect(own).not.toContain(dir);
      expect(own).not.toContain(`/${file.fd} `);
    } finally {
      await file.close();
    }
  });

  test("exactly the environment that it is given", () => {
    const { stdout } = spawnSync("/usr/bin/env", [], { env: { ONE: "1" }, encoding: "utf8" });
    expect(stdout).toBe("ONE=1\n");
  });

  test("no signal blocked or ignored: `yes | head` ends in a job as it does in a shell", () => {
    const { stdout } = spawnSync("grep", ["-E", "^Sig(Blk|Ign)", "/proc/self/status"], { encoding: "utf8" });
    expect(stdout).toBe("SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
    expect(shell("yes | head -n 1")).toBe("y\n");
  });

  test.skipIf(!isRoot)("another user and group, without groups and capabilities of root", () => {
    const status = spawnSync("grep", ["-E", "^(Uid|Gid|Groups|CapEff|CapPrm)", "/proc/self/status"], {
      uid: 65_534,
      gid: 65_534,
      encoding: "utf8",
    });
    expect(status.stdout.replaceAll(/[\t ]+/g, " ").replaceAll(/ $/gm, "")).toBe(
      [
        "Uid: 65534 65534 65534 65534",
        "Gid: 65534 65534 65534 65534",
        "Groups:",
        "CapPrm: 0000000000000000",
        "CapEff: 0000000000000000",
        "",
      ].join("\n"),
    );
  });
});

describe("output into a file", () => {
  test("goes on after the agent has closed it, in the order of both streams, behind what others append", async () => {
    const path = join(dir, "output");
    const file = await open(path, "a", 0o600);
    const child = spawn(
      "sh",
      ["-c", 'echo one; echo two >&2; while [ ! -e "$0.go" ]; do sleep 0.02; done; echo four', path],
      { stdio: ["ignore", file.fd, file.fd], detached: true },
    );
    await file.close();
    const read = (): Promise<string> => readFile(path, "utf8");
    await waitFor("two lines", async () => (await read()) === "one\ntwo\n");
    const ended = endOf(child);
    await writeFile(path, "three\n", { flag: "a" });
    await writeFile(`${path}.go`, "");
    expect(await ended).toEqual({ code: 0, signal: null });
    expect(await read()).toBe("one\ntwo\nthree\nfour\n");
  });

  test("goes on at the beginning, not behind a hole, when the agent empties it", async () => {
    const path = join(dir, "emptied");
    const file = await open(path, "a", 0o600);
    const child = spawn(
      "sh",
      ["-c", 'echo before; while [ ! -e "$0.go" ]; do sleep 0.02; done; echo after', path],
      { stdio: ["ignore", file.fd, file.fd] },
    );
    await file.close();
    await waitFor("its line", async () => (await readFile(path, "utf8")) !== "");
    const ended = endOf(child);
    await truncate(path, 0);
    await writeFile(`${path}.go`, "");
    await ended;
    expect(await readFile(path, "utf8")).toBe("after\n");
  });
});
