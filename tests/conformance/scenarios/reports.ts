import { waitFor } from "@mig/kit";
import type { VmEvent } from "@mig/protocol";
import { expect } from "vitest";
import type { Peer } from "../peer.ts";
import type { Scenario } from "./scenario.ts";

export const eventsOf = (peer: Peer, from: number, to: number): VmEvent[] =>
  Array.from({ length: to - from + 1 }, (_, i) => peer.event(from + i, "job_heartbeat", { n: from + i }));

export const events: readonly Scenario[] = [
  {
    name: "an event is acknowledged up to its seq",
    async play(peer) {
      const started = peer.event(1, "vm_started");
      expect(await peer.link.sendEvents([started])).toMatchObject({ upToSeq: 1, rejected: [] });
      expect(await peer.view()).toMatchObject({ state: "initializing", acked_seq: 1 });
    },
  },
  {
    name: "five hundred events in one batch are acknowledged together and in order",
    async play(peer) {
      expect(await peer.sendAll(eventsOf(peer, 1, 500))).toBe(500);
      expect(await peer.stored()).toBe(500);
    },
  },
  {
    name: "a gap is not acknowledged; sent again from the mark it closes",
    async play(peer) {
      await peer.link.sendEvents(eventsOf(peer, 1, 2));
      const ack = await peer.link.sendEvents(eventsOf(peer, 4, 5));
      expect(ack.upToSeq).toBe(2);
      expect(ack.rejected.every((rejection) => !rejection.permanent)).toBe(true);
      expect(await peer.sendAll(eventsOf(peer, 3, 5))).toBe(5);
    },
  },
  {
    name: "a poison event is refused for good and does not hold up the next",
    async play(peer) {
      const poison = peer.event(2, "Not A Kind");
      expect(await peer.sendAll([peer.event(1, "vm_started"), poison, peer.event(3, "job_started")])).toBe(3);
    },
  },
];

export const heartbeats: readonly Scenario[] = [
  {
    name: "a heartbeat is answered with the next interval and seen at once",
    async play(peer) {
      const reply = await peer.link.sendHeartbeat(peer.beat("idle"));
      expect(reply?.nextIntervalMs).toBeGreaterThan(500);
      await waitFor("the state", async () => (await peer.view())["state"] === "idle");
    },
  },
];
