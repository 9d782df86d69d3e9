import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { waitFor } from "@mig/kit";
import { afterEach, beforeEach, expect, it } from "vitest";
import { type House, openHouse } from "../lib/house.ts";
import { storedEvents } from "../lib/stored-events.ts";

/** R10: `kill -9` of the agent. Its runner and the job go on without it. */
let house: House;
beforeEach(async () => {
  house = await openHouse();
});
afterEach(async () => {
  await house[Symbol.asyncDispose]();
});

it("killed mid-job and started again, it finds its runner, and the job is told to the end once", async () => {
  const vm = await house.startVm("vm-killed");
  await house.until("vm-killed", "state", "idle");
  await house.github.queueJob({ displayName: "long", overrides: { durationMs: 3_000 } });
  await house.until("vm-killed", "state", "running");
  vm.agent.kill("SIGKILL");
  await vm.agent.ended();
  vm.restart();
  await house.until("vm-killed", "state", "terminated", 20_000);
  expect(await vm.agent.ended()).toBe(0);
  const [job] = await house.github.jobs();
  expect(job).toMatchObject({ result: "Succeeded", runnerName: expect.stringContaining("vm-killed") });

  const stored = (await storedEvents(house)).filter((event) => event.vmId === "vm-killed");
  expect(stored.map((event) => event.seq)).toEqual(stored.map((_, i) => i + 1));
  const count = (type: string): number => stored.filter((event) => event.type === type).length;
  expect([
    count("job_started"),
    count("job_completed"),
    count("runner_crashed"),
    count("runner_registered"),
  ]).toEqual([1, 1, 0, 1]);
  expect(stored.at(-1)?.type).toBe("vm_terminated");
});

it("killed mid-job and started again after the job has ended, it tells what happened meanwhile", async () => {
  const vm = await house.startVm("vm-late");
  await house.until("vm-late", "state", "idle");
  await house.github.queueJob({ displayName: "short", overrides: { durationMs: 800 } });
  await house.until("vm-late", "state", "running");
  vm.agent.kill("SIGKILL");
  await vm.agent.ended();
  await waitFor("the job to end", async () => (await house.github.jobs())[0]?.status === "completed");
  await waitFor("the runner to leave", async () => (await house.github.runners()).length === 0);
  vm.restart();
  await house.until("vm-late", "state", "terminated", 20_000);
  const types = (await storedEvents(house))
    .filter((event) => event.vmId === "vm-late")
    .map((event) => event.type);
  expect(types.filter((type) => type === "job_completed" || type === "runner_crashed")).toHaveLength(1);
  expect(types.at(-1)).toBe("vm_terminated");
});

it("killed while it waits for the controller, it loses no event that it had on disk", async () => {
  house.controller.kill("SIGKILL");
  await house.controller.ended();
  const vm = await house.startVm("vm-early");
  await waitFor("the event on disk", async () =>
    (await readFile(await spoolFile(vm.home), "utf8")).includes("vm_started"),
  );
  vm.agent.kill("SIGKILL");
  await vm.agent.ended();
  await house.restartController();
  vm.restart();
  await house.until("vm-early", "state", "idle", 20_000);
  const stored = (await storedEvents(house)).filter((event) => event.vmId === "vm-early");
  expect(stored.map((event) => event.seq)).toEqual(stored.map((_, i) => i + 1));
  expect(stored[0]?.type).toBe("vm_started");
});

/** The first segment below the agent's state directory. */
async function spoolFile(home: string): Promise<string> {
  const found = await readdir(join(home, "state"), { recursive: true, withFileTypes: true });
  const segment = found.find((entry) => entry.isFile() && entry.parentPath.includes("spool"));
  if (segment === undefined) throw new Error("no spool yet");
  return join(segment.parentPath, segment.name);
}
