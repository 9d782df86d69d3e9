import { hasNatsServer, type NatsServer, startNatsServer } from "@mig/sandbox";
import { afterAll, beforeAll, describe, it } from "vitest";
import type { Channel } from "../../apps/miglet/src/link/link.ts";
import { type House, openHouse } from "../lib/house.ts";
import { Peer } from "./peer.ts";
import { scenarios } from "./scenarios.ts";

/** One list of scenarios × every channel, the agent's own link code against a real controller process. */
const hasNats = hasNatsServer();
const channels: readonly Channel[] = ["grpc", "websocket", "sse", "poll", "nats"];

/** One for all: each scenario has a VM of its own. */
let house: House;
let nats: NatsServer | undefined;
beforeAll(async () => {
  nats = hasNats ? await startNatsServer() : undefined;
  house = await openHouse(nats === undefined ? {} : { moreArgs: ["--nats-url", nats.url] });
});
afterAll(async () => {
  await house[Symbol.asyncDispose]();
  await nats?.[Symbol.asyncDispose]();
});

describe.each(channels)("over %s", (channel) => {
  const stage = {
    async restart() {
      house.controller.kill("SIGKILL");
      await house.controller.ended();
      await house.restartController();
    },
  };

  const played = scenarios.filter(({ notOver = [] }) => !notOver.includes(channel));
  it
    .skipIf(channel === "nats" && !hasNats)
    .each(played.map((scenario, i) => ({ ...scenario, vmId: `vm-${channel}-${i}` })))(
    "$name",
    async ({ play, vmId }) => {
      const peer = new Peer(house, channel, vmId);
      await peer.connect();
      try {
        await play(stage, peer);
      } finally {
        await peer.close();
      }
    },
  );
});
