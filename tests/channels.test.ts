import { connect, createServer } from "node:net";
import { silentLog, waitFor } from "@mig/kit";
import { asObject } from "@mig/protocol";
import { freePort } from "@mig/sandbox";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createChosenLink } from "../apps/miglet/src/link/choose-link.ts";
import { createHttpCalls } from "../apps/miglet/src/link/http-calls.ts";
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

it("twenty agents climb to gRPC when it can be reached, and none is without a channel for a moment", async () => {
  const port = await freePort();
  const downs: string[] = [];
  const opened = Array.from({ length: 20 }, (_, i) => {
    const about = { vmId: `vm-climbs-${i}`, incarnation: "boot-1" };
    const http = createHttpCalls({ endpoint: house.url, ...about, log: silentLog });
    const link = createChosenLink(
      {
        channel: "auto",
        speaker: { ...about, poolId: "pool-a", version: "0.1.0", migletState: () => "idle" },
        http,
        httpEndpoint: house.url,
        grpcEndpoint: `127.0.0.1:${port}`,
        timing: { reconnectFirstMs: 50, reconnectCapMs: 400, retryUpMs: 300 },
        log: silentLog,
      },
      {
        onUp: () => {},
        onDown: (reason) => void downs.push(reason.message),
        onCommand: () => {},
        onGoAway: () => {},
        onRefused: () => {},
      },
    );
    link.open();
    return { link, http };
  });
  const are = (channel: string): boolean => opened.every(({ link }) => link.channel() === channel);
  await waitFor("WebSocket everywhere", () => are("websocket"), { timeoutMs: 30_000 });
  const { hostname, port: target } = new URL(house.url);
  const forward = createServer((near) => {
    const far = connect(Number(target), hostname);
    near.on("error", () => far.destroy()).pipe(far);
    far.on("error", () => near.destroy()).pipe(near);
  });
  await new Promise<void>((resolve) => forward.listen(port, "127.0.0.1", resolve));
  try {
    await waitFor("gRPC everywhere", () => are("grpc"), { timeoutMs: 30_000 });
    expect(downs).toEqual([]);
  } finally {
    await Promise.all(opened.map(({ link }) => link.close()));
    for (const { http } of opened) http.close();
    forward.close();
  }
});
