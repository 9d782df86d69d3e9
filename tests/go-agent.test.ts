import { join } from "node:path";
import { waitFor } from "@mig/kit";
import { freePort, type GoAgent, installRunner, startGoAgent } from "@mig/sandbox";
import { afterEach, beforeEach, expect, it } from "vitest";
import { type House, openHouse } from "./lib/house.ts";

/** The agents that are on VMs today, against `mig-controller --sample`, which is all they know. */
let house: House;
let agent: GoAgent | undefined;

beforeEach(async () => {
  house = await openHouse({
    controllerArgs: ["--sample", "--heartbeat-interval", "1s", "--unreachable-after", "4s"],
  });
});
afterEach(async () => {
  await agent?.stop();
  await house[Symbol.asyncDispose]();
});

it("goes from connect to idle on one port, and is asked to register once", async () => {
  const target = house.url.replace("http://", "");
  agent = startGoAgent({
    httpUrl: house.url,
    grpcTarget: target,
    vmId: "vm-old",
    poolId: "pool-a",
    timeFactor: 0.1,
  });
  await waitFor("idle", () => agent?.state() === "idle");
  expect(await house.until("vm-old", "state", "idle")).toMatchObject({
    miglet_state: "idle",
    pool_id: "pool-a",
  });
  const answered = house.controller.lines.filter((line) => line["msg"] === "a command was answered");
  expect(answered.map((line) => [line["type"], line["state"]])).toEqual([
    ["register_runner", "acknowledged"],
  ]);
  expect(agent.connects()).toBe(1);
});

it("comes back after a restart of the controller without being registered twice", async () => {
  const target = house.url.replace("http://", "");
  agent = startGoAgent({
    httpUrl: house.url,
    grpcTarget: target,
    vmId: "vm-old",
    poolId: "pool-a",
    timeFactor: 0.1,
  });
  await house.until("vm-old", "state", "idle");
  house.controller.kill("SIGKILL");
  await house.controller.ended();
  await house.restartController();
  await waitFor("its new stream", async () => (await house.vm("vm-old"))["channel"] === "grpc", {
    timeoutMs: 15_000,
  });
  await house.until("vm-old", "state", "idle");
  expect(house.controller.lines.filter((line) => line["msg"] === "a command was answered")).toEqual([]);
});

it("says nothing of a config.sh that fails; its error heartbeat does", async () => {
  const root = join(house.dir, "old-runner");
  await installRunner(root, { timeFactor: 0.02 });
  const grpcTarget = house.url.replace("http://", "");
  const runnerEnv = { RUNNER_ALLOW_RUNASROOT: "1" };
  // The sample's fixed token means nothing to GitHub: config.sh fails, and the agent says nothing of it (A9).
  const options = { httpUrl: house.url, grpcTarget, vmId: "vm-old", poolId: "pool-a", timeFactor: 0.1 };
  agent = startGoAgent({ ...options, runnerDir: root, runnerEnv });
  await waitFor("its error", () => agent?.state() === "error", { timeoutMs: 15_000 });
  await house.until("vm-old", "state", "error");
});

it("is known by its HTTP heartbeats alone while its gRPC endpoint is wrong", async () => {
  const port = await freePort();
  agent = startGoAgent({
    httpUrl: house.url,
    grpcTarget: `127.0.0.1:${port}`,
    vmId: "vm-lost",
    poolId: "p",
    timeFactor: 0.1,
  });
  await house.until("vm-lost", "miglet_state", "ready");
});
