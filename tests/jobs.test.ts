import { glob, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { ScenarioName } from "@mig/sandbox";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type House, openHouse } from "./lib/house.ts";
import { storedEvents } from "./lib/stored-events.ts";

/** Jobs that go every way a job can go, each on a VM of its own; what the VM says is then read from the table. */
let house: House;
beforeAll(async () => {
  house = await openHouse();
});
afterAll(async () => {
  await house[Symbol.asyncDispose]();
});

interface Case {
  scenario: ScenarioName;
  about: string;
  result: string;
  exitCode: number;
  crashed?: boolean;
}

const cases: readonly Case[] = [
  { scenario: "ok", about: "succeeds", result: "succeeded", exitCode: 0 },
  { scenario: "fail", about: "fails", result: "failed", exitCode: 0 },
  // Its name writes a completion line of its own: what the runner prints cannot be believed, and is not.
  { scenario: "spoof", about: "has a name full of traps", result: "unknown", exitCode: 0 },
  { scenario: "flood", about: "floods stdout with lines of a mebibyte", result: "succeeded", exitCode: 0 },
  { scenario: "setup-fail", about: "fails before its hooks run", result: "failed", exitCode: 0 },
  { scenario: "crash", about: "ends with the death of its Worker", result: "failed", exitCode: 0 },
];

it.each(cases)("a job that $about: $result", async ({ scenario, result, exitCode }) => {
  const vmId = `vm-${scenario}`;
  const vm = await house.startVm(vmId);
  await house.until(vmId, "state", "idle");
  const overrides = scenario === "spoof" || scenario === "flood" ? { durationMs: 700 } : {};
  await house.github.queueJob({ scenario, overrides });
  await house.until(vmId, "state", "terminated", 20_000);
  expect(await vm.agent.ended()).toBe(exitCode);
  const completed = house.controller.lines.filter(
    (line) => line["msg"] === "a job completed" && line["vm_id"] === vmId,
  );
  expect(completed.map((line) => line["result"])).toEqual([result]);
});

it("no job sees the agent's environment, and no secret of a grant is in any file that the agent leaves", async () => {
  const vm = await house.startVm("vm-thief");
  await house.until("vm-thief", "state", "idle");
  await house.github.queueJob({ scenario: "job-steals-env" });
  await house.until("vm-thief", "state", "terminated", 20_000);
  expect(await vm.agent.ended()).toBe(0);
  const files = await Array.fromAsync(glob("**/stolen-env.txt", { cwd: vm.home }));
  expect(files).toHaveLength(1);
  const stolen = await readFile(join(vm.home, files[0] ?? ""), "utf8");
  expect(stolen).toContain("GITHUB_RUN_ID=");
  expect(stolen).not.toMatch(/MIGLET_|ACTIONS_RUNNER_INPUT|jitconfig/i);
  const logged = JSON.stringify([...vm.agent.lines, ...house.controller.lines]);
  expect(logged).not.toMatch(/encoded_jit|BEGIN RSA|eyJ[A-Za-z0-9+/=]{60,}/);
});

it("a runner that dies mid-job is told once: the job has no result, or its Worker's", async () => {
  const vm = await house.startVm("vm-dies");
  await house.until("vm-dies", "state", "idle");
  await house.github.queueJob({ scenario: "listener-crash", overrides: { durationMs: 500 } });
  await house.until("vm-dies", "state", "terminated", 30_000);
  expect(await vm.agent.ended()).toBe(6);
});

it("every VM's events are on record in order, each job started and completed once", async () => {
  const stored = await storedEvents(house);
  for (const { scenario } of cases) {
    const mine = stored.filter((event) => event.vmId === `vm-${scenario}`);
    expect(mine.map((event) => event.seq)).toEqual(mine.map((_, i) => i + 1));
    const count = (type: string): number => mine.filter((event) => event.type === type).length;
    expect([scenario, count("job_started"), count("job_completed"), count("vm_terminated")]).toEqual([
      scenario,
      1,
      1,
      1,
    ]);
  }
  const died = stored.filter((event) => event.vmId === "vm-dies").map((event) => event.type);
  expect(died.filter((type) => type === "runner_crashed")).toHaveLength(1);
});
