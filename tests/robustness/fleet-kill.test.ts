import { waitFor } from "@mig/kit";
import { asObject, readText, type Unknown } from "@mig/protocol";
import { afterAll, beforeAll, expect, it } from "vitest";
import { describeOnOneEngine } from "../../apps/controller/tests/engines.ts";
import { Peer } from "../conformance/peer.ts";
import { type House, openHouse } from "../lib/house.ts";

const vmsMax = 12;
const atOnce = 3;

/** An order for many VMs while the controller that works on it is killed: the tables alone know how far it is. */
describeOnOneEngine("a fleet order whose controller is killed in the middle", (engine) => {
  let house: House;
  let database: Awaited<ReturnType<typeof engine.create>>;
  const peers: Peer[] = [];
  beforeAll(async () => {
    database = await engine.create();
    house = await openHouse({
      paces: ["--heartbeat-interval", "1s", "--unreachable-after", "60s", "--lost-after", "120s"],
      ...(database.url === undefined ? {} : { databaseUrl: database.url }),
    });
    for (let n = 0; n < vmsMax; n += 1)
      peers.push(new Peer({ house }, "websocket", `vm-${String(n).padStart(2, "0")}`));
    await Promise.all(peers.map((peer) => peer.connect()));
  });
  afterAll(async () => {
    await Promise.all(peers.map((peer) => peer.close()));
    await house[Symbol.asyncDispose]();
    await database.drop();
  });

  const rowsOf = (body: Unknown, key: string): Unknown[] =>
    (Array.isArray(body[key]) ? body[key] : []).map(asObject).filter((row) => row !== undefined);
  const commands = async (): Promise<Unknown[]> =>
    rowsOf((await house.api("GET", "commands?type=set_log_level&limit=1000")).body, "commands");
  const underWay = async (): Promise<number> =>
    (await commands()).filter(({ state }) => ["pending", "sent", "acknowledged"].includes(String(state)))
      .length;
  const restart = async (): Promise<void> => {
    house.controller.kill("SIGKILL");
    await house.controller.ended();
    await house.restartController();
  };

  it("has never more under way than it says, tells each VM once, and comes to its end", async () => {
    const { status, body } = await house.api("POST", "fleet/commands", {
      selector: { vm_ids: peers.map(({ vmId }) => vmId) },
      type: "set_log_level",
      parameters: { level: "debug" },
      max_parallel: atOnce,
    });
    expect(status).toBe(201);
    const look = async (): Promise<Unknown> => (await house.api("GET", `fleet/commands/${body["id"]}`)).body;
    const busy = (): Peer[] => peers.filter((peer) => peer.waiting() > 0);
    const effects = new Map<string, string[]>();
    /** As many VMs as are at work do what they were told, each once, however often it comes. */
    const obey = async (some: readonly Peer[]): Promise<void> => {
      for (const peer of some) {
        const command = await peer.next();
        const done = effects.get(peer.vmId) ?? [];
        if (!done.includes(command.id)) effects.set(peer.vmId, [...done, command.id]);
        await peer.finish(command);
      }
    };

    for (const ended of [0, 4]) {
      await waitFor(`${ended} to have ended and the next to be at work`, async () => {
        if (effects.size < ended) await obey(busy().slice(0, ended - effects.size));
        return effects.size >= ended && busy().length >= atOnce;
      });
      await restart();
      // What was under way is under way, and nothing was begun beside it.
      expect(await underWay()).toBeLessThanOrEqual(atOnce);
    }
    let most = 0;
    await waitFor(
      "the end of the order",
      async () => {
        most = Math.max(most, await underWay());
        await obey(busy());
        return readText(await look(), "state") === "done";
      },
      { timeoutMs: 30_000 },
    );
    expect(most).toBeLessThanOrEqual(atOnce);
    expect(await look()).toMatchObject({
      progress: { total: vmsMax, succeeded: vmsMax, failed: 0, skipped: 0 },
    });
    const told = await commands();
    expect(told.map(({ vm_id }) => vm_id).sort()).toEqual(peers.map(({ vmId }) => vmId));
    expect(told.map(({ id }) => id).sort()).toEqual([...effects.values()].flat().sort());
  });
});
