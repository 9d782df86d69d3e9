import { rm } from "node:fs/promises";
import { join } from "node:path";
import { waitFor } from "@mig/kit";
import { afterEach, beforeEach, expect, it } from "vitest";
import { type House, openHouse } from "./lib/house.ts";

/** What ends a VM on its own account: nothing that runs is touched, and GitHub is asked before anything is stopped. */
let house: House;
beforeEach(async () => {
  house = await openHouse();
});
afterEach(() => house[Symbol.asyncDispose]());

it("an idle runner is deleted at GitHub first, and only then stopped", async () => {
  const vm = await house.startVm("vm-idle", { settings: ["limits: { idle_timeout: 1s }"] });
  expect(await vm.agent.ended()).toBe(0);
  await house.until("vm-idle", "state", "terminated");
  expect(await house.github.runners()).toEqual([]);
  const calls = (await house.github.requests()).filter(({ method }) => method === "DELETE");
  expect(calls.map(({ path }) => path)).toEqual([
    expect.stringMatching(/^\/orgs\/acme\/actions\/runners\/\d+$/),
  ]);
  expect(vm.agent.lines.some((line) => line["reason"] === "idle_timeout")).toBe(true);
});

it("a VM that may register again has more jobs than it may have failures", async () => {
  const vm = await house.startVm("vm-again", { reuse: true });
  for (let n = 0; n < 5; n += 1) {
    const job = await house.github.queueJob({ overrides: { durationMs: 50 } });
    await waitFor(`job ${n}`, async () => (await house.github.job(job.id))?.status === "completed", {
      timeoutMs: 30_000,
    });
  }
  expect(vm.agent.exitCode()).toBeUndefined();
});

it("a VM whose time is over finishes its job and takes no other", async () => {
  const vm = await house.startVm("vm-old", { settings: ["limits: { max_lifetime: 4s }"], reuse: true });
  await house.until("vm-old", "state", "idle");
  const job = await house.github.queueJob({ overrides: { durationMs: 6_000 } });
  await house.until("vm-old", "state", "draining");
  expect(await vm.agent.ended()).toBe(0);
  expect((await house.github.job(job.id))?.result).toBe("Succeeded");
  expect(vm.agent.lines.some((line) => line["reason"] === "max_lifetime")).toBe(true);
});

it("a machine that runs out of disk takes no new job and says why", async () => {
  const vm = await house.startVm("vm-full", {
    settings: ["limits: { disk_free_mib: 999999999 }", "metrics: { collection_interval: 1s }"],
  });
  expect(await vm.agent.ended()).toBe(0);
  const said = vm.agent.lines.filter((line) => line["type"] === "error");
  expect(said.length).toBeGreaterThan(0);
  expect(vm.agent.lines.some((line) => line["reason"] === "disk_low")).toBe(true);
});

it("an agent that dies while it ends goes on ending, with the exit code that was due", async () => {
  const vm = await house.startVm("vm-broken", { runner: { scenario: "unknown-exit" } });
  await vm.agent.says("The agent has moved on.");
  await waitFor("the error", () => vm.agent.lines.some((line) => line["state"] === "error"));
  vm.agent.kill("SIGKILL");
  await vm.agent.ended();
  vm.restart();
  expect(await vm.agent.ended()).toBeGreaterThan(0);
  await rm(join(vm.home, "state"), { recursive: true, force: true });
});
