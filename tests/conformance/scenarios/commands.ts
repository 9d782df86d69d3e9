import { waitFor } from "@mig/kit";
import { expect } from "vitest";
import type { Peer } from "../peer.ts";
import type { Scenario } from "./scenario.ts";

/** Types that do not take each other's place, in an order that is not that of the alphabet. */
export const mixed = ["update_config", "set_log_level", "drain", "shutdown"] as const;

/** The next command, done. */
export async function obey(peer: Peer): Promise<string> {
  const command = await peer.next();
  await peer.receive(command);
  await peer.finish(command);
  return command.type;
}

export const delivery: readonly Scenario[] = [
  {
    name: "a command is brought whole, as it was ordered, and the next one only after it",
    async play(peer) {
      const beforeMs = Date.now();
      const { id } = await peer.order("set_log_level", { level: "debug", deep: { list: [1, null, "é"] } });
      const command = await peer.next();
      expect(command).toMatchObject({
        ...{ id, type: "set_log_level", attempt: 1 },
        parameters: { level: "debug", deep: { list: [1, null, "é"] } },
      });
      expect(command.expiresAtMs).toBeGreaterThan(beforeMs);
      const other = await peer.order("update_config", {});
      expect(peer.waiting()).toBe(0);
      await peer.finish(command);
      expect(await peer.next()).toMatchObject(other);
    },
  },
  {
    name: "a VM that says ready is told to register a runner, with a grant",
    async play(peer) {
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
];

export const order: readonly Scenario[] = [
  {
    name: "commands come one at a time, in the order in which they were given",
    async play(peer) {
      for (const type of mixed) await peer.order(type);
      const came: string[] = [];
      for (const _ of mixed) {
        const command = await peer.next();
        came.push(command.type);
        expect(peer.waiting()).toBe(0);
        await peer.finish(command);
      }
      expect(came).toEqual(mixed);
    },
  },
  {
    name: "an urgent shutdown overtakes what waits, and nothing else does",
    async play(peer) {
      await peer.order("set_log_level", { level: "debug" });
      const first = await peer.next();
      await peer.order("update_config");
      await peer.order("drain");
      await peer.order("shutdown", { force: true });
      await peer.finish(first);
      const came = [await obey(peer), await obey(peer), await obey(peer)];
      expect(came).toEqual(["shutdown", "update_config", "drain"]);
    },
  },
];

export const ack: readonly Scenario[] = [
  {
    name: "a command goes from pending to sent when it is brought, and to acknowledged when it is received",
    async play(peer) {
      await peer.order("update_config");
      const before = await peer.next();
      const queued = await peer.order("drain");
      expect(await peer.command(queued)).toMatchObject({ state: "pending", attempt: 0, sent_at: null });
      await peer.finish(before);
      const command = await peer.next();
      expect(command).toMatchObject(queued);
      expect(await peer.until(command, "sent")).toMatchObject({ acknowledged_at: null });
      await peer.receive(command);
      const acknowledged = await peer.until(command, "acknowledged");
      expect(acknowledged["acknowledged_at"]).not.toBeNull();
      expect(acknowledged["finished_at"]).toBeNull();
    },
  },
  {
    name: "a drain that is received shows on the VM",
    async play(peer) {
      await peer.order("drain");
      await peer.receive(await peer.next());
      await waitFor("draining", async () => (await peer.view())["state"] === "draining");
    },
  },
];

export const result: readonly Scenario[] = [
  {
    name: "what was done is kept with the command, word for word",
    async play(peer) {
      const queued = await peer.order("update_config", { heartbeat_interval: "2s" });
      const command = await peer.next();
      await peer.receive(command);
      const said = { before: { heartbeat_interval: "1s" }, after: { heartbeat_interval: "2s", note: "é" } };
      await peer.finish(command, { message: "done", result: said });
      expect(await peer.until(queued, "succeeded")).toMatchObject({ message: "done", result: said });
    },
  },
  {
    name: "a command that went wrong is failed and says why; one that was refused is rejected",
    async play(peer) {
      const broken = await peer.order("update_config");
      await peer.finish(await peer.next(), { success: false, message: "the disk is full" });
      expect(await peer.until(broken, "failed")).toMatchObject({ message: "the disk is full" });
      const refused = await peer.order("drain");
      await peer.finish(await peer.next(), { success: false, result: { refused: true }, message: "not now" });
      expect(await peer.until(refused, "rejected")).toMatchObject({ message: "not now" });
    },
  },
  {
    name: "a drain is answered: the receipt is on the VM",
    async play(peer) {
      await peer.order("drain");
      const command = await peer.next();
      await peer.receive(command);
      const said = { drained: true, was: "no_runner" };
      await peer.finish(command, { result: said });
      const vm = await waitFor("the receipt", async () => {
        const seen = await peer.view();
        return seen["drained"] === null ? undefined : seen;
      });
      expect(vm["drained"]).toMatchObject({ ...said, command_id: command.id });
    },
  },
];

export const duplicate: readonly Scenario[] = [
  {
    name: "answers that come twice, late or against each other change nothing after the first",
    async play(peer) {
      const queued = await peer.order("set_log_level", { level: "debug" });
      const command = await peer.next();
      for (let times = 0; times < 2; times += 1) await peer.receive(command);
      for (let times = 0; times < 2; times += 1) await peer.finish(command, { message: "the first" });
      const ended = await peer.until(queued, "succeeded");
      await peer.receive(command);
      await peer.finish(command, { success: false, message: "the second" });
      // Whoever is asked this has taken all that came before it.
      const next = await peer.order("drain");
      await peer.finish(await peer.next());
      await peer.until(next, "succeeded");
      expect(await peer.command(queued)).toEqual(ended);
      expect(ended).toMatchObject({ attempt: 1, message: "the first" });
    },
  },
  {
    name: "one Idempotency-Key is one command",
    async play(peer) {
      const key = `twice-${peer.vmId}`;
      const ids = await Promise.all(
        [1, 2, 3].map(() => peer.order("set_log_level", { level: "info" }, { key })),
      );
      expect(new Set(ids.map(({ id }) => id)).size).toBe(1);
      expect(await obey(peer)).toBe("set_log_level");
      await peer.order("drain");
      expect((await peer.next()).type).toBe("drain");
    },
  },
  {
    name: "an event that comes twice is stored once and acknowledged again",
    async play(peer) {
      const started = peer.event(1, "vm_started");
      for (let times = 0; times < 2; times += 1)
        expect(await peer.link.sendEvents([started])).toMatchObject({ upToSeq: 1, rejected: [] });
      expect(await peer.stored()).toBe(1);
    },
  },
];
