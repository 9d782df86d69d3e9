import { hasNatsServer, type NatsServer, startNatsServer } from "@mig/sandbox";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type House, openHouse } from "../lib/house.ts";
import { Peer, type Way } from "./peer.ts";
import type { Place } from "./roads.ts";
import { eventsOf } from "./scenarios/reports.ts";
import { theList } from "./the-list.ts";

const hasNats = hasNatsServer();
const ways: readonly Way[] = ["auto", "grpc", "websocket", "sse", "poll", "nats"];
/** Half a dozen scenarios share the processor with others: nobody is called silent meanwhile. */
const paces = ["--heartbeat-interval", "1s", "--unreachable-after", "60s", "--lost-after", "120s"];

/**
 * The list × every channel and the agent's choice among them, with the agent's own link code, against one real controller
 * process on this database. Each scenario has a VM and a network of its own, so several run at a time; what takes the
 * controller away comes last, for all at once.
 */
export function playList(createDatabase?: () => Promise<{ url?: string; drop(): Promise<void> }>): void {
  let house: House;
  let nats: NatsServer | undefined;
  let database: Awaited<ReturnType<NonNullable<typeof createDatabase>>> | undefined;
  const place = (): Place => ({ house, natsUrl: nats?.url });
  beforeAll(async () => {
    [nats, database] = await Promise.all([hasNats ? startNatsServer() : undefined, createDatabase?.()]);
    house = await openHouse({
      paces,
      ...(nats === undefined ? {} : { moreArgs: ["--nats-url", nats.url] }),
      ...(database?.url === undefined ? {} : { databaseUrl: database.url }),
    });
  });
  afterAll(async () => {
    await house[Symbol.asyncDispose]();
    await nats?.[Symbol.asyncDispose]();
    await database?.drop();
  });

  for (const way of ways)
    for (const [topic, scenarios] of Object.entries(theList))
      for (const [n, { name, notOver, play }] of scenarios.entries()) {
        const title = `over ${way}: ${topic}: ${name}`;
        const why = notOver?.[way];
        if (why !== undefined) it.skip(`${title} (not over ${way}: ${why})`);
        else
          it.concurrent(title, async ({ skip }) => {
            skip(way === "nats" && !hasNats, "no nats-server");
            const peer = new Peer(place(), way, `vm-${way}-${topic.replaceAll(" ", "-")}-${n}`);
            await peer.connect();
            try {
              await play(peer);
            } finally {
              await peer.close();
            }
          });
      }

  it("a controller that is killed loses nothing that was acknowledged, and every channel comes back by itself", async () => {
    const peers = ways
      .filter((way) => hasNats || way !== "nats")
      .map((way) => new Peer(place(), way, `vm-${way}-killed`));
    try {
      const ordered = await Promise.all(
        peers.map(async (peer) => {
          await peer.connect();
          await peer.link.sendEvents(eventsOf(peer, 1, 3));
          const queued = await peer.order("drain");
          expect(await peer.next(), peer.way).toMatchObject(queued);
          peer.forget();
          return { peer, queued };
        }),
      );
      house.controller.kill("SIGKILL");
      await house.controller.ended();
      await house.restartController();
      await Promise.all(
        ordered.map(async ({ peer, queued }) => {
          expect(await peer.next(), peer.way).toMatchObject(queued);
          expect(await peer.sendAll(eventsOf(peer, 2, 5)), peer.way).toBe(5);
          expect(await peer.stored(), peer.way).toBe(5);
        }),
      );
    } finally {
      await Promise.all(peers.map((peer) => peer.close()));
    }
  });
}
