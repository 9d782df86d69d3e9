import { expect } from "vitest";
import { mixed, obey } from "./commands.ts";
import type { Scenario } from "./scenario.ts";

export const expiry: readonly Scenario[] = [
  {
    name: "a command whose time is over is not brought; the next one is",
    async play(peer) {
      await peer.disconnect();
      const late = await peer.order("drain", {}, { expiresIn: "300ms" });
      const good = await peer.order("update_config");
      await peer.until(late, "expired");
      await peer.connect();
      expect(await peer.next()).toMatchObject(good);
    },
  },
  {
    name: "one that was brought and never acknowledged in its time is expired, and frees the next",
    async play(peer) {
      const late = await peer.order("drain", {}, { expiresIn: "500ms" });
      expect(await peer.next()).toMatchObject(late);
      const good = await peer.order("update_config");
      await peer.until(late, "expired");
      expect(await peer.next()).toMatchObject(good);
    },
  },
];

export const offlineQueue: readonly Scenario[] = [
  {
    name: "what waits for a VM that is away is there when it comes, one at a time and in order",
    async play(peer) {
      await peer.disconnect();
      for (const type of mixed) await peer.order(type);
      await peer.connect();
      const came: string[] = [];
      for (const _ of mixed) came.push(await obey(peer));
      expect(came).toEqual(mixed);
    },
  },
  {
    name: "a VM that nobody has heard of yet gets what was ordered for it",
    async play(peer) {
      const unborn = peer.neighbour();
      const queued = await unborn.order("drain");
      await unborn.connect();
      expect(await unborn.next()).toMatchObject(queued);
    },
  },
];
