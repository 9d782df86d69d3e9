import { waitFor } from "@mig/kit";
import { expect } from "vitest";
import type { Peer } from "../peer.ts";
import type { Scenario } from "./scenario.ts";

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
