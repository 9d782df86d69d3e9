import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { waitFor } from "@mig/kit";
import { hasNatsServer, type NatsServer, startNatsServer } from "@mig/sandbox";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Peer } from "./conformance/peer.ts";
import { type House, openHouse } from "./lib/house.ts";

/** Two controller processes on one PostgreSQL and one NATS. */
const serverUrl = process.env["MIG_TEST_DATABASE_URL"] ?? "postgres://postgres@127.0.0.1:5432/postgres";
const hasPostgres = await run("select 1").then(
  () => true,
  () => false,
);
if (!hasPostgres && process.env["MIG_TEST_REQUIRE_SERVERS"] === "1")
  throw new Error("no PostgreSQL server answers: set MIG_TEST_DATABASE_URL");

async function run(statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: serverUrl, connectionTimeoutMillis: 2_000 });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}

describe.skipIf(!hasPostgres || !hasNatsServer())("two controllers on one NATS", () => {
  const name = `mig_test_${randomBytes(6).toString("hex")}`;
  let nats: NatsServer;
  let houses: House[] = [];
  beforeAll(async () => {
    await run(`create database ${name}`);
    const url = new URL(serverUrl);
    url.pathname = `/${name}`;
    nats = await startNatsServer();
    const open = (...more: string[]): Promise<House> =>
      openHouse({ databaseUrl: url.href, moreArgs: ["--nats-url", nats.url, ...more] });
    // One after the other: the first makes the tables, and the key that secrets in them are sealed with.
    const first = await open();
    houses = [first];
    houses.push(
      await open("--secrets-master-key", pathToFileURL(join(first.dir, "data", ".mig", "master.key")).href),
    );
  });
  afterAll(async () => {
    for (const house of houses) await house[Symbol.asyncDispose]();
    await nats[Symbol.asyncDispose]();
    await run(`drop database ${name} with (force)`);
  });

  it("share the VMs; when one is killed its VMs go on at the other, and nothing is lost or doubled", async () => {
    const [killed, left] = houses as [House, House];
    const peers = Array.from({ length: 20 }, (_, i) => new Peer({ house: left }, "nats", `vm-${i}`));
    await Promise.all(peers.map((peer) => peer.connect()));
    const opened = (house: House): number =>
      house.controller.lines.filter(({ msg }) => msg === "a VM has connected").length;
    expect(opened(killed) + opened(left)).toBe(peers.length);
    expect(Math.min(opened(killed), opened(left))).toBeGreaterThan(0);

    const events = (peer: Peer, from: number) =>
      Array.from({ length: 20 }, (_, i) => peer.event(from + i, "job_heartbeat", { n: from + i }));
    await Promise.all(peers.map((peer) => peer.sendAll(events(peer, 1))));
    const orders = await Promise.all(peers.map((peer) => peer.order("set_log_level", { level: "debug" })));
    killed.controller.kill("SIGKILL");
    await killed.controller.ended();
    await Promise.all(
      peers.map(async (peer, i) => {
        const command = await peer.next();
        expect(command.id).toBe(orders[i]?.id);
        await peer.link.answer({ commandId: command.id, stage: "result", success: true });
        expect(await peer.sendAll(events(peer, 21))).toBe(40);
        await waitFor("the end of the command", async () => {
          const { body } = await left.api("GET", `commands/${command.id}`);
          return body["state"] === "succeeded";
        });
      }),
    );
    await Promise.all(peers.map((peer) => peer.close()));
  });
});
