import { execFileSync, spawnSync } from "node:child_process";
import { closeSync, mkdirSync, openSync, writeSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { waitFor } from "@mig/kit";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type House, openHouse } from "../lib/house.ts";
import { storedEvents } from "../lib/stored-events.ts";

/** Disks that are really full: small ones in memory, which only root can mount. */
const canMount = await tryMount();

describe.skipIf(!canMount)("a full disk (needs root and mount)", () => {
  let house: House;
  const mounts: string[] = [];
  beforeEach(async () => {
    house = await openHouse();
  });
  afterEach(async () => {
    for (const mount of mounts.splice(0)) spawnSync("umount", ["-l", mount]);
    await house[Symbol.asyncDispose]();
  });
  const mountAt = (path: string): string => {
    mkdirSync(path, { recursive: true });
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", path]);
    mounts.push(path);
    return path;
  };

  it("of the agent: its job ends well, and nothing that matters is lost", async () => {
    const state = mountAt(join(house.dir, "vm-1", "state"));
    const vm = await house.startVm("vm-1");
    await house.until("vm-1", "state", "idle");
    fill(state);
    const job = await house.github.queueJob({ overrides: { durationMs: 1_500 } });
    expect(await vm.agent.ended(60_000)).toBe(0);
    expect((await house.github.job(job.id))?.result).toBe("Succeeded");
    const types = (await storedEvents(house)).map(({ type }) => type);
    expect(types).toEqual(
      expect.arrayContaining(["job_started", "job_completed", "spool_degraded", "vm_terminated"]),
    );
  });

  it("of the runner: the job ends badly, and the VM ends and says so", async () => {
    const vm = await house.startVm("vm-2");
    await house.until("vm-2", "state", "idle");
    fill(mountAt(join(vm.home, "actions-runner", "_work")));
    const job = await house.github.queueJob({ overrides: { durationMs: 1_500 } });
    await waitFor("the agent to end", () => vm.agent.exitCode() !== undefined, { timeoutMs: 60_000 });
    expect((await house.github.job(job.id))?.result).not.toBe("Succeeded");
    const types = (await storedEvents(house)).map(({ type }) => type);
    expect(types).toEqual(expect.arrayContaining(["job_completed", "vm_terminated"]));
  });
});

function fill(dir: string): void {
  const file = openSync(join(dir, "filler"), "w");
  try {
    for (let size = 65_536; size >= 1; size = Math.floor(size / 2)) {
      try {
        for (;;) writeSync(file, Buffer.alloc(size));
      } catch {
        // No room for so much; for less there may be.
      }
    }
  } finally {
    closeSync(file);
  }
}

async function tryMount(): Promise<boolean> {
  const dir = await mkdtemp(join(tmpdir(), "mig-mount-"));
  const isMounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", dir]).status === 0;
  if (isMounted) spawnSync("umount", [dir]);
  await rm(dir, { recursive: true, force: true });
  return isMounted;
}
