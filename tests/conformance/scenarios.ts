import { setTimeout as pause } from "node:timers/promises";
import { waitFor } from "@mig/kit";
import type { VmEvent } from "@mig/protocol";
import { expect } from "vitest";
import type { Channel } from "../../apps/miglet/src/link/link.ts";
import type { Peer, Stage } from "./peer.ts";

/**
 * What every channel must do, whatever carries it. A new channel passes this list or it is not one. Each scenario
 * has a VM of its own; `peer` speaks for it with the agent's own link code, `stage` is the controller process.
 */
export interface Scenario {
  name: string;
  /** Channels that have no such thing. */
  notOver?: readonly Channel[];
  play(stage: Stage, peer: Peer): Promise<void>;
}

const events = (peer: Peer, from: number, to: number): VmEvent[] =>
  Array.from({ length: to - from + 1 }, (_, i) => peer.event(from + i, "job_heartbeat", { n: from + i }));

export const scenarios: readonly Scenario[] = [
  {
    name: "an event is acknowledged up to its seq, and again when it comes again",
    async play(_stage, peer) {
      const started = peer.event(1, "vm_started");
      expect(await peer.link.sendEvents([started])).toMatchObject({ upToSeq: 1, rejected: [] });
      expect(await peer.link.sendEvents([started])).toMatchObject({ upToSeq: 1, rejected: [] });
      expect(await peer.view()).toMatchObject({ state: "initializing", acked_seq: 1 });
    },
  },
  {
    name: "five hundred events in one batch are acknowledged together and in order",
    async play(_stage, peer) {
      const ack = await peer.sendAll(events(peer, 1, 500));
      expect(ack).toBe(500);
    },
  },
  {
    name: "a gap is not acknowledged; sent again from the mark it closes",
    async play(_stage, peer) {
      await peer.link.sendEvents(events(peer, 1, 2));
      const ack = await peer.link.sendEvents(events(peer, 4, 5));
      expect(ack.upToSeq).toBe(2);
      expect(ack.rejected.every((rejection) => !rejection.permanent)).toBe(true);
      expect(await peer.sendAll(events(peer, 3, 5))).toBe(5);
    },
  },
  {
    name: "a poison event is refused for good and does not hold up the next",
    async play(_stage, peer) {
      const poison = peer.event(2, "Not A Kind");
      expect(await peer.sendAll([peer.event(1, "vm_started"), poison, peer.event(3, "job_started")])).toBe(3);
    },
  },
  {
    name: "a heartbeat is answered with the next interval and seen at once",
    async play(_stage, peer) {
      const reply = await peer.link.sendHeartbeat(peer.beat("idle"));
      expect(reply?.nextIntervalMs).toBeGreaterThan(500);
      await waitFor("the state", async () => (await peer.view())["state"] === "idle");
    },
  },
  {
    name: "a VM that says ready is told to register a runner, with a grant",
    async play(_stage, peer) {
      peer.state = "ready";
      await peer.link.sendHeartbeat(peer.beat("ready"));
      const command = await peer.next();
      expect(command).toMatchObject({
        type: "register_runner",
        parameters: { labels: ["self-hosted", "linux", "x64"] },
      });
      expect(command.parameters["jit_config"]).toMatch(/^[A-Za-z0-9+/=]{20,}$/);
    },
  },
  {
    name: "a command goes pending, sent, acknowledged, succeeded",
    async play(_stage, peer) {
      const queued = await peer.order("set_log_level", { level: "debug" });
      const command = await peer.next();
      expect(command).toMatchObject({
        id: queued["id"],
        type: "set_log_level",
        parameters: { level: "debug" },
        attempt: 1,
      });
      await peer.link.answer({ commandId: command.id, stage: "received", success: true });
      await peer.link.answer({
        commandId: command.id,
        stage: "result",
        success: true,
        result: { level: "debug" },
      });
      // The next one comes only because the first was acknowledged.
      await peer.order("set_log_level", { level: "info" });
      expect(await peer.next()).toMatchObject({ parameters: { level: "info" } });
    },
  },
  {
    name: "what waits for a VM that is away is there when it comes, one at a time and in order",
    async play(_stage, peer) {
      await peer.disconnect();
      await peer.order("update_config", { heartbeat_interval: "2s" });
      await peer.order("set_log_level", { level: "warn" });
      await peer.connect();
      const first = await peer.next();
      expect(first.type).toBe("update_config");
      await pause(100);
      expect(peer.waiting()).toBe(0);
      await peer.link.answer({ commandId: first.id, stage: "result", success: true });
      expect((await peer.next()).type).toBe("set_log_level");
    },
  },
  {
    name: "a command that was not acknowledged comes again after a reconnect, under the same id",
    async play(_stage, peer) {
      const queued = await peer.order("drain");
      expect((await peer.next()).id).toBe(queued["id"]);
      await peer.disconnect();
      await peer.connect();
      const again = await peer.next();
      expect(again.id).toBe(queued["id"]);
      expect(again.attempt).toBeGreaterThan(1);
    },
  },
  {
    name: "a result that was lost on its way is asked for by the next session, and by the one after it",
    // Answers go by HTTP there, which says whether they arrived, and a session outlives its requests.
    notOver: ["poll"],
    async play(_stage, peer) {
      const queued = await peer.order("set_log_level", { level: "debug" });
      const { id } = await peer.next();
      await peer.link.answer({ commandId: id, stage: "received", success: true });
      for (let times = 0; times < 2; times += 1) {
        await waitFor(
          "it to be acknowledged",
          async () => (await peer.command(id))["state"] === "acknowledged",
        );
        await peer.disconnect();
        await peer.connect();
        expect((await peer.next()).id).toBe(queued["id"]);
      }
      await peer.link.answer({ commandId: id, stage: "result", success: true });
      await waitFor("its end", async () => (await peer.command(id))["state"] === "succeeded");
    },
  },
  {
    name: "a drain is received, then answered: the receipt is on the VM",
    async play(_stage, peer) {
      await peer.order("drain");
      const command = await peer.next();
      await peer.link.answer({ commandId: command.id, stage: "received", success: true });
      await waitFor("draining", async () => (await peer.view())["state"] === "draining");
      const result = { drained: true, was: "no_runner" };
      await peer.link.answer({ commandId: command.id, stage: "result", success: true, result });
      const vm = await waitFor("the receipt", async () => {
        const seen = await peer.view();
        return seen["drained"] === null ? undefined : seen;
      });
      expect(vm["drained"]).toMatchObject({ ...result, command_id: command.id });
    },
  },
  {
    name: "another connection of the same boot goes on where the first one was",
    async play(_stage, peer) {
      const second = await peer.twin();
      await peer.order("set_log_level", { level: "error" });
      expect((await second.next()).type).toBe("set_log_level");
      expect(peer.waiting()).toBe(0);
      await second.close();
    },
  },
  {
    name: "a restart of the controller loses nothing that was acknowledged and brings the VM back by itself",
    async play(stage, peer) {
      await peer.link.sendEvents(events(peer, 1, 3));
      const queued = await peer.order("drain");
      expect((await peer.next()).id).toBe(queued["id"]);
      peer.forget();
      await stage.restart();
      expect((await peer.next(20_000)).id).toBe(queued["id"]);
      expect(await peer.sendAll(events(peer, 2, 5))).toBe(5);
    },
  },
  {
    name: "a new boot of the VM is a new life with its own numbering",
    async play(_stage, peer) {
      await peer.link.sendEvents(events(peer, 1, 3));
      await peer.disconnect();
      peer.reboot();
      await peer.connect();
      expect(await peer.sendAll([peer.event(1, "vm_started")])).toBe(1);
      expect(await peer.view()).toMatchObject({ life: 2, state: "initializing" });
    },
  },
];
