import { afterAll, beforeAll, describe, it } from "vitest";
import type { Channel } from "../../apps/miglet/src/link/link.ts";
import { type House, openHouse } from "../lib/house.ts";
import { Peer } from "./peer.ts";
import { scenarios } from "./scenarios.ts";

/** One list of scenarios × every channel, the agent's own link code against a real controller process. */
const channels: readonly Channel[] = ["grpc", "websocket", "sse", "poll"];

/** One for all: each scenario has a VM of its own. */
let house: House;
beforeAll(async () => {
  house = await openHouse();
});
afterAll(async () => {
  await house[Symbol.asyncDispose]();
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
  it.each(played.map((scenario, i) => ({ ...scenario, vmId: `vm-${channel}-${i}` })))(
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
