import { waitFor } from "@mig/kit";
import { expect } from "vitest";
import type { Peer } from "../peer.ts";
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

/** As an agent whose journal knows the command: each time that it comes again, it gets the same answer. */
async function answerUntil(
  peer: Peer,
  command: { id: string },
  state: string,
  answer: () => Promise<void>,
): Promise<void> {
  await waitFor(
    `${command.id} to be ${state}`,
    async () => {
      if (peer.waiting() > 0) {
        expect(await peer.next()).toMatchObject(command);
        peer.forget();
        await answer();
      }
      return (await peer.command(command))["state"] === state;
    },
    { timeoutMs: 20_000, everyMs: 60 },
  );
}

export const reconnectInTheMiddle: readonly Scenario[] = [
  {
    name: "before delivery: it comes with the next connection",
    async play(peer) {
      peer.loseNetwork();
      const queued = await peer.order("drain");
      peer.heal();
      const command = await peer.next();
      expect(command).toMatchObject(queued);
      await peer.finish(command);
      await peer.until(queued, "succeeded");
    },
  },
  {
    name: "between delivery and acknowledgement: it comes again under the same id",
    async play(peer) {
      const queued = await peer.order("drain");
      expect(await peer.next()).toMatchObject(queued);
      peer.loseNetwork();
      peer.forget();
      peer.heal();
      const again = await peer.next();
      expect(again).toMatchObject(queued);
      await peer.finish(again);
      await peer.until(queued, "succeeded");
    },
  },
  {
    name: "an acknowledgement that is lost: it is sent again or asked for again",
    async play(peer) {
      const queued = await peer.order("drain");
      const command = await peer.next();
      peer.loseWhatGoes("up");
      void peer.receive(command);
      peer.cut();
      peer.forget();
      await answerUntil(peer, queued, "acknowledged", () => peer.receive(queued));
      await peer.finish(queued);
      await answerUntil(peer, queued, "succeeded", () => peer.finish(queued));
    },
  },
  {
    name: "between acknowledgement and result: the result is taken over the next connection",
    async play(peer) {
      const queued = await peer.order("drain");
      await peer.receive(await peer.next());
      await peer.until(queued, "acknowledged");
      peer.loseNetwork();
      const finish = () => peer.finish(queued, { message: "in the dark" });
      void finish();
      peer.forget();
      peer.heal();
      await answerUntil(peer, queued, "succeeded", finish);
      expect(await peer.command(queued)).toMatchObject({ message: "in the dark" });
    },
  },
  {
    name: "a result that is lost on its way: it is asked for again",
    async play(peer) {
      const queued = await peer.order("drain");
      await peer.receive(await peer.next());
      await peer.until(queued, "acknowledged");
      peer.loseWhatGoes("up");
      void peer.finish(queued);
      peer.cut();
      peer.forget();
      await answerUntil(peer, queued, "succeeded", () => peer.finish(queued));
    },
  },
  {
    name: "between the result and its acknowledgement: sent again it changes nothing, and the command does not come again",
    async play(peer) {
      const queued = await peer.order("drain");
      await peer.receive(await peer.next());
      await peer.until(queued, "acknowledged");
      peer.loseWhatGoes("down");
      void peer.finish(queued, { message: "once" });
      const ended = await peer.until(queued, "succeeded");
      peer.cut();
      peer.forget();
      // As an agent does when a channel opens (inbox.repeatResults).
      void peer.finish(queued, { message: "once" });
      const next = await peer.order("update_config");
      const command = await peer.next();
      expect(command).toMatchObject(next);
      await peer.finish(command);
      await peer.until(next, "succeeded");
      expect(await peer.command(queued)).toEqual(ended);
    },
  },
];
