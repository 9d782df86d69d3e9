import { waitFor } from "@mig/kit";
import { asObject } from "@mig/protocol";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type House, openHouse } from "./lib/house.ts";

/** What an operator may order, with real programs: nothing is lost, and a drain never kills a job. */
let house: House;
beforeAll(async () => {
  house = await openHouse();
});
afterAll(async () => {
  await house[Symbol.asyncDispose]();
});

const answered = (vmId: string, type: string, state: string) =>
  waitFor(`${vmId} to answer ${type} with ${state}`, () =>
    house.controller.lines.find(
      (line) =>
        line["msg"] === "a command was answered" &&
        line["vm_id"] === vmId &&
        line["type"] === type &&
        line["state"] === state,
    ),
  );
const jobOf = async (vmId: string) =>
  (await house.github.jobs()).find((job) => job.runnerName?.startsWith(vmId));

it("an idle VM is drained: GitHub lets the runner go, nothing is killed, and the VM ends", async () => {
  const vm = await house.startVm("vm-idle");
  await house.until("vm-idle", "state", "idle");
  expect(await house.order("vm-idle", "drain")).toMatchObject({
    http: 201,
    type: "drain",
    state: "pending",
  });
  await answered("vm-idle", "drain", "succeeded");
  const ended = await house.until("vm-idle", "state", "terminated");
  const receipt = asObject(ended["drained"]) ?? {};
  expect(receipt["drained"]).toBe(true);
  // The stand-in's Listener hears of the deletion at once and may be gone before the command arrives.
  expect(["idle", "no_runner"]).toContain(receipt["was"]);
  expect(await vm.agent.ended()).toBe(0);
  expect(await house.github.runners()).toEqual([]);
});

it("a busy VM finishes its job before it is drained, and takes no other", async () => {
  const vm = await house.startVm("vm-busy");
  await house.until("vm-busy", "state", "idle");
  await house.github.queueJob({ overrides: { durationMs: 2_000 } });
  await house.until("vm-busy", "state", "running");
  await house.order("vm-busy", "drain");
  await house.until("vm-busy", "state", "draining");
  const waiting = await house.github.queueJob({ overrides: { durationMs: 10 } });
  const ended = await house.until("vm-busy", "state", "terminated");
  expect(asObject(ended["drained"])).toMatchObject({ drained: true, was: "busy" });
  expect(await vm.agent.ended()).toBe(0);
  expect(await jobOf("vm-busy")).toMatchObject({ result: "Succeeded" });
  expect(await house.github.job(waiting.id)).toMatchObject({ status: "queued" });
  await house.github.cancelJob(waiting.id);
});

it("a shutdown waits for the job; by force, here at a deadline, it does not", async () => {
  const patient = await house.startVm("vm-patient");
  await house.until("vm-patient", "state", "idle");
  await house.github.queueJob({ overrides: { durationMs: 1_500 } });
  await house.until("vm-patient", "state", "running");
  await house.order("vm-patient", "shutdown");
  await house.until("vm-patient", "state", "terminated");
  expect(await patient.agent.ended()).toBe(0);
  expect(await jobOf("vm-patient")).toMatchObject({ result: "Succeeded" });

  const forced = await house.startVm("vm-forced");
  await house.until("vm-forced", "state", "idle");
  await house.github.queueJob({ overrides: { durationMs: 60_000 } });
  await house.until("vm-forced", "state", "running");
  await house.order("vm-forced", "drain", { deadline: "1s", at_deadline: "force" });
  await house.until("vm-forced", "state", "terminated");
  await forced.agent.ended();
  expect((await jobOf("vm-forced"))?.result).not.toBe("Succeeded");
});

it("log level and settings change at run time; what must not change is refused by name", async () => {
  const vm = await house.startVm("vm-tuned");
  await house.until("vm-tuned", "state", "idle");
  expect(vm.agent.lines.some((line) => line["level"] === "debug")).toBe(false);
  await house.order("vm-tuned", "set_log_level", { level: "debug" });
  await answered("vm-tuned", "set_log_level", "succeeded");
  await house.order("vm-tuned", "update_config", { heartbeat_interval: "2s" });
  await answered("vm-tuned", "update_config", "succeeded");
  await waitFor("a debug line", () => vm.agent.lines.some((line) => line["level"] === "debug"));
  await house.order("vm-tuned", "update_config", { controller: { endpoint: "http://169.254.169.254" } });
  await answered("vm-tuned", "update_config", "rejected");
  // It is a wish for the machine, and outlives the process.
  vm.agent.kill("SIGKILL");
  await vm.agent.ended();
  vm.restart();
  await house.order("vm-tuned", "update_config", { heartbeat_interval: "3s" });
  const find = "commands?vm_id=vm-tuned&type=update_config&state=succeeded&limit=1";
  await waitFor("what was and what is", async () => {
    const [newest] = (await house.api("GET", find)).body["commands"] as { result: object }[];
    expect(newest?.result).toMatchObject({
      before: { "heartbeat.interval_ms": 2_000 },
      after: { "heartbeat.interval_ms": 3_000 },
    });
    return true;
  });
  await house.order("vm-tuned", "drain");
  await house.until("vm-tuned", "state", "terminated");
});

it("SIGTERM on the VM lets the job finish; a second one does not", async () => {
  const vm = await house.startVm("vm-term");
  await house.until("vm-term", "state", "idle");
  await house.github.queueJob({ overrides: { durationMs: 1_500 } });
  await house.until("vm-term", "state", "running");
  vm.agent.kill("SIGTERM");
  await house.until("vm-term", "state", "terminated");
  expect(await vm.agent.ended()).toBe(0);
  expect(await jobOf("vm-term")).toMatchObject({ result: "Succeeded" });

  const twice = await house.startVm("vm-twice");
  await house.until("vm-twice", "state", "idle");
  await house.github.queueJob({ overrides: { durationMs: 60_000 } });
  await house.until("vm-twice", "state", "running");
  twice.agent.kill("SIGTERM");
  await house.until("vm-twice", "state", "draining");
  twice.agent.kill("SIGTERM");
  expect(await twice.agent.ended()).toBe(143);
  await house.until("vm-twice", "state", "terminated");
});

it("an order for a VM that is not there waits for it", async () => {
  await house.order("vm-later", "drain");
  const vm = await house.startVm("vm-later");
  const ended = await house.until("vm-later", "state", "terminated");
  expect(asObject(ended["drained"])).toMatchObject({ drained: true, was: "no_runner" });
  expect(await vm.agent.ended()).toBe(0);
});
