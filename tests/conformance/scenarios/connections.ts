import { waitFor } from "@mig/kit";
import { expect } from "vitest";
import { mixed, obey } from "./commands.ts";
import { eventsOf } from "./reports.ts";
import type { Scenario } from "./scenario.ts";

export const redelivery: readonly Scenario[] = [
  {
    name: "a command that is not acknowledged in time comes again on the same connection, under the same id",
    async play(peer) {
      const queued = await peer.order("drain");
      expect(await peer.next()).toMatchObject({ ...queued, attempt: 1 });
      peer.forget();
      const again = await waitFor(
        "the second delivery",
        async () => {
          const command = await peer.next();
          peer.forget();
          return (command.attempt ?? 0) > 1 && command;
        },
        { timeoutMs: 20_000 },
      );
      expect(again).toMatchObject(queued);
      await peer.finish(again);
      await peer.until(queued, "succeeded");
    },
  },
  {
    name: "a command that was not acknowledged comes again after a reconnect, under the same id",
    async play(peer) {
      const queued = await peer.order("drain");
      expect(await peer.next()).toMatchObject(queued);
      await peer.disconnect();
      await peer.connect();
      const again = await peer.next();
      expect(again).toMatchObject(queued);
      expect(again.attempt).toBeGreaterThan(1);
    },
  },
  {
    name: "a command without a result is asked for again by the next session, and by the one after it",
    notOver: {
      poll: "a session outlives its requests there, and answers go by HTTP, which says whether they came",
    },
    async play(peer) {
      const queued = await peer.order("set_log_level", { level: "debug" });
      await peer.receive(await peer.next());
      for (let times = 0; times < 2; times += 1) {
        await peer.until(queued, "acknowledged");
        await peer.disconnect();
        await peer.connect();
        expect(await peer.next()).toMatchObject(queued);
      }
      await peer.finish(queued);
      await peer.until(queued, "succeeded");
    },
  },
];

export const resume: readonly Scenario[] = [
  {
    name: "events go on from the mark after a break, and none is stored twice",
    async play(peer) {
      await peer.sendAll(eventsOf(peer, 1, 3));
      peer.cut();
      expect(await peer.sendAll(eventsOf(peer, 2, 6))).toBe(6);
      expect(await peer.stored()).toBe(6);
    },
  },
  {
    name: "what was finished before a break does not come again; what waits comes",
    async play(peer) {
      const [done, next] = [await peer.order("drain"), await peer.order("update_config")];
      const command = await peer.next();
      expect(command).toMatchObject(done);
      await peer.finish(command);
      await peer.until(done, "succeeded");
      peer.cut();
      expect(await peer.next()).toMatchObject(next);
    },
  },
  {
    name: "a new boot of the VM is a new life with its own numbering",
    async play(peer) {
      await peer.link.sendEvents(eventsOf(peer, 1, 3));
      await peer.disconnect();
      peer.reboot();
      await peer.connect();
      expect(await peer.sendAll([peer.event(1, "vm_started")])).toBe(1);
      expect(await peer.view()).toMatchObject({ life: 2, state: "initializing" });
    },
  },
];

export const supersede: readonly Scenario[] = [
  {
    name: "a newer order takes the place of one of its kind that waits, and of no other",
    async play(peer) {
      await peer.order("drain");
      const before = await peer.next();
      const old = await peer.order("set_log_level", { level: "debug" });
      const other = await peer.order("update_config");
      const fresh = await peer.order("set_log_level", { level: "warn" });
      expect(await peer.command(old)).toMatchObject({ state: "superseded" });
      await peer.finish(before);
      for (const expected of [other, fresh]) {
        const command = await peer.next();
        expect(command).toMatchObject(expected);
        await peer.finish(command);
      }
    },
  },
  {
    name: "another connection of the same boot takes the place of the first, which is told and gets nothing more",
    async play(peer) {
      const second = peer.twin();
      await second.connect();
      await waitFor("the first to give way", () => peer.link.channel() === undefined);
      const queued = await peer.order("set_log_level", { level: "error" });
      expect(await second.next()).toMatchObject(queued);
      expect(peer.waiting()).toBe(0);
    },
  },
];

export const slowConsumer: readonly Scenario[] = [
  {
    name: "a VM that reads nothing holds up no other, and has all in order when it reads again",
    async play(peer) {
      const other = peer.neighbour();
      await other.connect();
      peer.stopReading();
      const note = "x".repeat(60_000);
      for (const type of mixed) await peer.order(type, { note });
      for (let times = 0; times < 2; times += 1) {
        await other.order("drain");
        expect(await obey(other)).toBe("drain");
      }
      peer.heal();
      const came: string[] = [];
      for (const _ of mixed) came.push(await obey(peer));
      expect(came).toEqual(mixed);
    },
  },
];
