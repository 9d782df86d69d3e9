import { waitFor } from "@mig/kit";
import { afterEach, beforeEach, expect, it } from "vitest";
import { type House, openHouse } from "../lib/house.ts";
import { storedEvents } from "../lib/stored-events.ts";

/** kill -9 of the agent in each state of a life, and another process in its place: the job runs once and is told once. */
let house: House;
beforeEach(async () => {
  house = await openHouse();
});
afterEach(() => house[Symbol.asyncDispose]());

it.each(["registering_runner", "idle", "job_running", "draining"] as const)(
  "killed while %s, the next process goes on",
  async (state) => {
    const vm = await house.startVm("vm-1", {
      // A start that takes a while, so that there is time to be killed in it.
      ...(state === "registering_runner" ? { runner: { scenario: "slow-start" } } : {}),
    });
    const isAt = (): boolean => vm.agent.lines.some((line) => line["state"] === state);
    const job =
      state === "idle" ? undefined : await house.github.queueJob({ overrides: { durationMs: 4_000 } });
    if (state === "draining") {
      await house.until("vm-1", "state", "running");
      await house.order("vm-1", "drain");
    }
    await waitFor(`the agent to be ${state}`, isAt, { timeoutMs: 30_000 });
    vm.agent.kill("SIGKILL");
    await vm.agent.ended();
    vm.restart();
    const told = job ?? (await house.github.queueJob({ overrides: { durationMs: 500 } }));
    expect(await vm.agent.ended(60_000)).toBe(0);
    expect((await house.github.job(told.id))?.result).toBe("Succeeded");
    await house.until("vm-1", "state", "terminated");
    const types = (await storedEvents(house)).map(({ type }) => type);
    for (const once of [
      "vm_started",
      "runner_registered",
      "job_completed",
      "vm_shutting_down",
      "vm_terminated",
    ])
      expect(
        types.filter((type) => type === once),
        once,
      ).toHaveLength(1);
    expect(types).not.toContain("runner_crashed");
  },
);
