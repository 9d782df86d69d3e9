import { readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { waitFor } from "@mig/kit";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type House, openHouse, type Vm } from "./lib/house.ts";
import type { Spawned } from "./lib/spawn.ts";

/** VMs that nobody knows yet, a controller that asks who calls, and one enrolment token for each. */
let house: House;
let vm: Vm;
let token: string;

beforeAll(async () => {
  house = await openHouse({ join: true });
  token = await house.joinToken();
});
afterAll(async () => {
  await house[Symbol.asyncDispose]();
});

const joins = (vmId: string): number =>
  house.controller.lines.filter(({ msg, vm_id }) => msg === "a VM has joined" && vm_id === vmId).length;
const usesOf = async (text: string): Promise<unknown> => {
  const { body } = await house.api("GET", "join-tokens");
  const all = body["join_tokens"] as { id: string; uses: number }[];
  return all.find(({ id }) => text.startsWith(id))?.uses;
};
const refusalOf = (agent: Spawned): Promise<Record<string, unknown>> =>
  agent.says("The controller refuses this VM.");

it("a VM without a pool joins, is told its pool, and registers a runner", async () => {
  vm = await house.startVm("vm-join", { joinToken: token, env: { MIGLET_JOIN_TOKEN: token } });
  await vm.agent.says("The VM has joined.");
  expect(await house.until("vm-join", "state", "idle")).toMatchObject({ pool_id: "pool-a", org_id: "acme" });
  await house.until("vm-join", "channel", "grpc");
  expect((await stat(join(vm.home, "state", "identity-key.pem"))).mode & 0o777).toBe(0o600);
  expect([joins("vm-join"), await usesOf(token)]).toEqual([1, 1]);
  expect(vm.agent.lines.findLast(({ msg }) => msg === "The agent has moved on.")).toMatchObject({
    pool_id: "pool-a",
    org_id: "acme",
  });
});

it("neither token is in a log, on disk, or where the runner and its jobs could look", async () => {
  const processes: string[] = [];
  for (const pid of await readdir("/proc")) {
    const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
    if (!command.includes(join(vm.home, "actions-runner"))) continue;
    processes.push(command, await readFile(`/proc/${pid}/environ`, "utf8").catch(() => ""));
  }
  expect(processes.length).toBeGreaterThan(0);
  const kept = await readdir(vm.home, { recursive: true, withFileTypes: true });
  const files = kept.filter((entry) => entry.isFile() && entry.name !== "join-token");
  const texts = await Promise.all(
    files.map((entry) => readFile(join(entry.parentPath, entry.name), "latin1").catch(() => "")),
  );
  const logs = [...vm.agent.lines, ...house.controller.lines].map((line) => JSON.stringify(line));
  const all = [...processes, ...texts, ...logs].join("\n");
  expect(all).not.toContain(token);
  // The access token is a JWT; the grant of the runner is none that begins so.
  expect(all).not.toMatch(/eyJ[\w-]+\.eyJ[\w-]+\./);
});

it("a restarted agent proves the same key: the enrolment token is not used again", async () => {
  const [before] = await house.github.runners();
  vm.agent.kill("SIGKILL");
  await vm.agent.ended();
  vm.restart();
  await vm.agent.says("A channel to the controller is open.");
  expect(await house.until("vm-join", "miglet_state", "idle")).toMatchObject({ state: "idle" });
  expect([joins("vm-join"), await usesOf(token)]).toEqual([1, 1]);
  expect((await house.github.runners()).map(({ id }) => id)).toEqual([before?.id]);
});

it("a second machine of the same name is refused, says why, and ends with 4", async () => {
  const thief = await house.startVm("vm-thief", {
    env: { MIGLET_VM_ID: "vm-join", MIGLET_SHUTDOWN_FLUSH_TIMEOUT: "500ms" },
  });
  expect(await refusalOf(thief.agent)).toMatchObject({
    code: "forbidden",
    message: expect.stringContaining("vm-join has joined with another key"),
  });
  expect(await thief.agent.ended()).toBe(4);
  await house.until("vm-join", "state", "idle");
});

it("settings that say another pool end the agent with 2, and the operator is told", async () => {
  const wrong = await house.startVm("vm-wrong", { env: { MIGLET_POOL_ID: "pool-reuse" } });
  await wrong.agent.says("The settings contradict what the controller says of this VM.");
  expect(await wrong.agent.ended()).toBe(2);
  expect(await house.controller.says("a VM reports an error")).toMatchObject({
    code: "settings_invalid",
    message: expect.stringContaining("pool_id is pool-reuse, but this VM joined as one of pool-a"),
  });
});

it("an enrolment token that comes late, and a controller that is away, are waited for", async () => {
  const late = await house.joinToken();
  house.controller.kill("SIGKILL");
  await house.controller.ended();
  const patient = await house.startVm("vm-patient", {
    joinToken: late,
    settings: ["shutdown: { flush_timeout: 1s }"],
  });
  await patient.agent.says("The controller gave this VM no token.");
  await writeFile(join(patient.home, "join-token"), "");
  await waitFor("a look at the empty file", () =>
    patient.agent.lines.some((line) => JSON.stringify(line).includes("does not hold one enrolment token")),
  );
  await house.restartController();
  await writeFile(join(patient.home, "join-token"), `${late}\n`);
  await house.until("vm-patient", "state", "idle");
  expect(patient.agent.exitCode()).toBeUndefined();
});

it("revoked: the stream ends, nothing is accepted any more, the runner is left alone", async () => {
  await house.until("vm-join", "channel", "grpc");
  const [runners, before] = [await house.github.runners(), vm.agent.lines.length];
  expect((await house.api("DELETE", "vms/vm-join/identity")).status).toBe(204);
  await vm.agent.says("The channel to the controller is gone.");
  expect(
    await waitFor("the refusal", () =>
      vm.agent.lines
        .slice(before)
        .find(({ msg, code }) => msg === "The controller refuses this VM." && code === "forbidden"),
    ),
  ).toMatchObject({ message: expect.stringContaining("the identity of vm-join was revoked") });
  expect((await house.github.runners()).length).toBe(runners.length);
  expect(vm.agent.exitCode()).toBeUndefined();
});

it("comes back with another enrolment token, and its runner with it", async () => {
  await writeFile(join(vm.home, "join-token"), `${await house.joinToken({ vm_id: "vm-join" })}\n`);
  vm.agent.kill("SIGKILL");
  await vm.agent.ended();
  vm.restart();
  await vm.agent.says("A channel to the controller is open.");
  await house.until("vm-join", "miglet_state", "idle");
});
