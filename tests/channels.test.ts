import { waitFor } from "@mig/kit";
import { asObject } from "@mig/protocol";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type House, openHouse } from "./lib/house.ts";

/** Real agent processes, each told to use one channel: a runner is registered and an order carried out over it. */
let house: House;
beforeAll(async () => {
  house = await openHouse();
});
afterAll(() => house[Symbol.asyncDispose]());

it.each(["websocket", "sse"])("a VM lives over %s", async (channel) => {
  const vmId = `vm-${channel}`;
  await house.startVm(vmId, { channel });
  await house.until(vmId, "state", "idle", 40_000);
  expect(await house.vm(vmId)).toMatchObject({ channel, reachability: "online", protocol_version: 1 });
  await house.order(vmId, "drain");
  await waitFor(
    "the receipt",
    async () => asObject((await house.vm(vmId))["drained"])?.["drained"] === true,
    { timeoutMs: 30_000 },
  );
});
