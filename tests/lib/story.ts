import { waitFor } from "@mig/kit";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type House, type HouseOptions, openHouse, type Vm } from "./house.ts";

/**
 * The story of one VM, told with the real programs: a controller, a MIGlet, and stand-ins for what lies outside,
 * GitHub and its runner. Each step waits for the one before; nothing is arranged behind their backs.
 */
export function tellStory(options: () => HouseOptions | Promise<HouseOptions> = () => ({})): void {
  let house: House;
  let vm: Vm;

  beforeAll(async () => {
    house = await openHouse(await options());
  });
  afterAll(async () => {
    await house[Symbol.asyncDispose]();
  });

  it("a VM boots and the controller hears of it", async () => {
    vm = await house.startVm("vm-story");
    await house.controller.says("a VM has started");
  });

  it("it opens its channel, is told to register a runner, and GitHub sees the runner", async () => {
    await house.until("vm-story", "state", "idle");
    await house.until("vm-story", "miglet_state", "idle");
    const [runner] = await house.github.runners();
    expect(runner).toMatchObject({
      status: "online",
      busy: false,
      ephemeral: true,
      labels: ["self-hosted", "linux", "x64"],
    });
    expect(await house.vm("vm-story")).toMatchObject({
      channel: "grpc",
      miglet_state: "idle",
      runner_state: "idle",
      runner_name: runner?.name,
    });
  });

  it("it tells how it is", async () => {
    const beaten = await waitFor("a heartbeat with health", async () => {
      const seen = await house.vm("vm-story");
      return seen["health"] === null ? undefined : seen;
    });
    expect(beaten["health"]).toMatchObject({
      memory_total: expect.any(Number),
      disk_total: expect.any(Number),
    });
    const { memory_total_bytes: memory = 0 } = beaten["health"] as { memory_total_bytes?: number };
    expect(memory).toBeGreaterThan(256 * 1024 * 1024);
  });

  it("a job comes and the controller knows whose it is", async () => {
    await house.github.queueJob({
      displayName: "build (linux)",
      repository: "acme/app",
      overrides: { durationMs: 5_000 },
    });
    await house.controller.says("a job started");
    const running = await house.until("vm-story", "state", "running");
    expect(running).toMatchObject({ runner_state: "running", current_job: { repository: "acme/app" } });
    expect((running["current_job"] as { run_id: string }).run_id).toMatch(/^\d+$/);
  });

  it("the job ends well, and the VM, which was for one job only, says goodbye and ends", async () => {
    const completed = await house.controller.says("a job completed");
    expect(completed).toMatchObject({ vm_id: "vm-story", result: "succeeded" });
    await house.until("vm-story", "state", "terminated");
    expect(await vm.agent.ended()).toBe(0);
  });

  it("nothing is left: not at GitHub, not on the VM", async () => {
    expect(await house.github.runners()).toEqual([]);
    expect((await house.github.jobs()).map((job) => job.result)).toEqual(["Succeeded"]);
  });

  it("every event of it is on record, in order and once", async () => {
    const said = house.controller.lines
      .filter((line) => line["vm_id"] === "vm-story")
      .map((line) => line["msg"]);
    const told = [
      "a VM begins a life",
      "a VM has started",
      "a VM has connected",
      "a runner is registered",
      "a job started",
      "a job completed",
      "a VM shuts down",
      "a VM has ended",
    ];
    expect(said.filter((sentence) => told.includes(String(sentence)))).toEqual(told);
  });
}
