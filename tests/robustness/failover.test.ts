import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pause, waitFor } from "@mig/kit";
import { freePort, hasNatsServer, type NatsServer, startNatsServer } from "@mig/sandbox";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { server } from "../../apps/controller/tests/directory-server.ts";
import { type Proxy as Network, startProxy } from "../../apps/miglet/tests/link-proxy.ts";
import { type Spawned, spawnProgram, stopAll } from "../lib/spawn.ts";
import { LightAgent } from "./light-agent.ts";

/**
 * Commands while everything that carries them breaks (issue 6, C1 to C3): channels are cut, lose one direction and are
 * half open, those to NATS as well; a controller is killed twice and another restarted, and so is the NATS server. Every
 * command takes effect exactly once, in order, and ends; no VM is called lost. In full: MIG_FAILOVER_VMS=200 MIG_FAILOVER_ORDERS=10.
 */
const vmsMax = Number(process.env["MIG_FAILOVER_VMS"] ?? 20);
const ordersEach = Number(process.env["MIG_FAILOVER_ORDERS"] ?? 4);
const hasNats = hasNatsServer();
const channels = [
  "auto",
  "grpc",
  "websocket",
  "sse",
  "poll",
  ...(hasNats ? (["nats"] as const) : []),
] as const;
const holeMs = 1_000;

interface Replica {
  readonly port: number;
  program: Spawned;
}

describe.skipIf(!server.available)("commands of two replicas on a PostgreSQL server", () => {
  let dir: string;
  let database: Awaited<ReturnType<typeof server.create>>;
  let db: pg.Pool;
  let proxy: Network;
  let nats: NatsServer | undefined;
  /** Between agents and whatever they speak to. */
  const networks: Network[] = [];
  const replicas: Replica[] = [];
  const agents: LightAgent[] = [];

  const spawnReplica = (port: number): Spawned =>
    spawnProgram("apps/controller/bin/mig-controller.js", [
      ...["--listen", `127.0.0.1:${port}`, "--grpc-listen", "off", "--dev", "--log-format", "json"],
      ...["--data-dir", join(dir, "data"), "--database-url", database.url, "--command-ack-timeout", "1s"],
      ...["--heartbeat-interval", "2s", "--unreachable-after", "30s", "--lost-after", "60s"],
      ...["--shutdown-grace", "1s", "--limits-shed-load=false"],
      ...(nats === undefined ? [] : ["--nats-url", nats.url]),
    ]);
  const whenReady = ({ port, program }: Replica): Promise<unknown> =>
    waitFor(
      "a controller to answer",
      () => {
        if (program.exitCode() !== undefined) throw new Error(JSON.stringify(program.lines.at(-1)));
        return fetch(`http://127.0.0.1:${port}/readyz`).then((answer) => answer.ok);
      },
      { timeoutMs: 40_000 },
    );
  const restart = async (replica: Replica, signal: NodeJS.Signals): Promise<void> => {
    replica.program.kill(signal);
    await replica.program.ended();
    replica.program = spawnReplica(replica.port);
    await whenReady(replica);
  };

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), "mig-failover-"));
    [database, nats] = await Promise.all([server.create(), hasNats ? startNatsServer() : undefined]);
    db = new pg.Pool({ connectionString: database.url, max: 4 });
    for (let n = 0; n < 2; n += 1) {
      const port = await freePort();
      replicas.push({ port, program: spawnReplica(port) });
    }
    await Promise.all(replicas.map(whenReady));
    let next = 0;
    proxy = await startProxy(() => {
      next += 1;
      return replicas[next % replicas.length]?.port ?? 0;
    });
    networks.push(proxy);
    const natsNetwork = nats && (await startProxy(Number(new URL(nats.url).port)));
    if (natsNetwork !== undefined) networks.push(natsNetwork);
    for (let n = 0; n < vmsMax; n += 1) {
      const vmId = `vm-${n}`;
      const endpoint = `http://127.0.0.1:${proxy.port}`;
      const channel = channels[n % channels.length] ?? "auto";
      // Of those who choose, every other one knows NATS.
      const knowsNats = channel === "nats" || (channel === "auto" && n % (2 * channels.length) === 0);
      const natsUrl = knowsNats && natsNetwork ? `nats://127.0.0.1:${natsNetwork.port}` : undefined;
      const journalPath = join(dir, `${vmId}.jsonl`);
      agents.push(new LightAgent({ vmId, endpoint, channel, natsUrl, journalPath, beatMs: 2_000 }));
    }
    await Promise.all(agents.map((agent) => agent.start()));
    await waitFor("every channel", () => agents.every((agent) => agent.channel() !== undefined), {
      timeoutMs: 30_000,
    });
  });
  afterAll(async () => {
    await Promise.all(agents.map((agent) => agent.die()));
    await Promise.all(networks.map((network) => network.close()));
    await stopAll();
    await nats?.[Symbol.asyncDispose]();
    await db.end();
    await database.drop();
    await rm(dir, { recursive: true, force: true });
  });

  /** Whoever orders tries until it is taken, with one key: a replica may die with the answer. */
  async function order(vmId: string, nth: number): Promise<string> {
    return waitFor(
      `order ${nth} of ${vmId} to be taken`,
      async () => {
        const replica = replicas[Math.floor(Math.random() * replicas.length)];
        const answer = await fetch(`http://127.0.0.1:${replica?.port}/api/v1/vms/${vmId}/commands`, {
          method: "POST",
          headers: { "content-type": "application/json", "idempotency-key": `${vmId}-${nth}` },
          body: JSON.stringify({
            type: "set_log_level",
            parameters: { level: nth % 2 === 0 ? "info" : "debug" },
          }),
          signal: AbortSignal.timeout(5_000),
        });
        const said = (await answer.json()) as { id?: string; command_id?: string };
        return answer.ok ? (said.id ?? said.command_id) : undefined;
      },
      { timeoutMs: 60_000, everyMs: 100 },
    );
  }

  const finals = new Map<string, string>();
  /** Of all orders that wait for their end, with one question. */
  async function watchStates(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const { rows } = await db.query<{ id: string; state: string }>(
        "select id, state from commands where finished_at is not null",
      );
      for (const { id, state } of rows) finals.set(id, state);
      await pause(100, signal);
    }
  }

  it("takes each command's effect once, in order, whatever breaks", { timeout: 240_000 }, async () => {
    // Every channel takes part, and not by name only.
    expect(new Set(agents.map((agent) => agent.channel())).size).toBe(channels.length - 1);
    const watch = new AbortController();
    onTestFinished(() => watch.abort());
    const watching = watchStates(watch.signal).catch(() => {});
    const ordered = new Map<string, string[]>(agents.map(({ vmId }) => [vmId, []]));
    const total = agents.length * ordersEach;
    const ordering = Promise.all(
      agents.map(async ({ vmId }) => {
        for (let nth = 0; nth < ordersEach; nth += 1) {
          const id = await order(vmId, nth);
          ordered.get(vmId)?.push(id);
          await waitFor(`the end of order ${nth} of ${vmId}`, () => finals.has(id), {
            timeoutMs: 90_000,
          }).catch(async (cause: Error) => {
            const { rows } = await db.query("select * from commands where id = $1", [id]);
            throw new Error(`${cause.message}; it is ${JSON.stringify(rows)}`, { cause });
          });
        }
      }),
    );
    ordering.catch(() => {}); // Awaited below; what breaks meanwhile is told there.
    const [one, other] = replicas as [Replica, Replica];
    const hole = async (...directions: ("up" | "down")[]): Promise<void> => {
      for (const network of networks) network.swallow(...directions);
      await pause(holeMs);
      for (const network of networks) network.heal();
    };
    const cut = (): void => {
      for (const network of networks) network.cut();
    };
    const troubles: [string, () => Promise<void> | void][] = [
      ["every connection is cut", cut],
      ["nothing goes up", () => hole("up")],
      ["a controller is killed", () => restart(one, "SIGKILL")],
      ["nothing comes down", () => hole("down")],
      [
        "agents die and come back",
        async () => {
          const some = agents.filter((_, n) => n % 3 === 0);
          await Promise.all(some.map((agent) => agent.die()));
          await Promise.all(some.map((agent) => agent.start()));
        },
      ],
      ["the other is restarted", () => restart(other, "SIGTERM")],
      ["nothing goes at all", () => hole("up", "down")],
      [
        "the NATS server is killed and started again",
        async () => {
          await nats?.kill();
          await nats?.start();
        },
      ],
      ["a controller is killed again", () => restart(one, "SIGKILL")],
      ["every connection is cut once more", cut],
    ];
    for (const [i, [, trouble]] of troubles.entries()) {
      // Spread over the work, so that each finds commands in every state.
      await waitFor(
        `order ${Math.floor((total * i) / troubles.length)}`,
        () => finals.size >= Math.floor((total * i) / (troubles.length + 1)),
        { timeoutMs: 90_000 },
      );
      await trouble();
    }
    await ordering;
    watch.abort();
    await watching;

    for (const { vmId, effects } of agents) expect(effects, vmId).toEqual(ordered.get(vmId));
    const { rows: others } = await db.query(
      "select vm_id, seq, state, attempt, message, created_at, finished_at from commands where state <> 'succeeded'",
    );
    expect(others).toEqual([]);
    expect(finals.size).toBe(total);
    const { rows } = await db.query<{ n: number }>("select count(*)::int as n from vms where state = 'lost'");
    expect(rows[0]?.n).toBe(0);
    const writtenOff = replicas.flatMap(({ program }) =>
      program.lines.filter(({ msg }) => msg === "a VM is written off"),
    );
    expect(writtenOff).toEqual([]);
  });
});
