import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { waitFor } from "@mig/kit";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { endProbes, lives, startProbe } from "./start-probe.ts";

/** Abstract socket names, which memory/lock.ts keeps two agents apart with (unix(7)). */
let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "mig-probe-"));
});
afterAll(() => rm(dir, { recursive: true, force: true }));
afterEach(endProbes);

describe.skipIf(process.platform !== "linux")("the lock of a state directory", () => {
  test("is one name for one process, leaves no file, and is free when the process is killed", async () => {
    const first = startProbe("lock", dir);
    await first.says("locked\n");
    // "@" is how the kernel shows the byte 0 that such a name begins with.
    expect(await readFile("/proc/net/unix", "latin1")).toMatch(/ @miglet-[0-9a-f]{32}$/m);
    expect(await readdir(dir)).toEqual([]);
    expect(await startProbe("lock", dir).ended()).toMatchObject({ code: 0, stdout: "state_unwritable\n" });
    first.child.kill("SIGKILL");
    await first.ended();
    const next = startProbe("lock", dir);
    await next.says("locked\n");
  });

  test("does not live on in a runner that outlives the agent", async () => {
    const first = startProbe("lockAndLeaveChild", dir);
    const runner = Number(await waitFor("its child", () => /^\d+\n$/.test(first.text()) && first.text()));
    try {
      first.child.kill("SIGKILL");
      await first.ended();
      expect(await lives(runner)).toBe(true);
      await startProbe("lock", dir).says("locked\n");
    } finally {
      process.kill(runner, "SIGKILL");
    }
  });
});
