import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { waitFor } from "@mig/kit";
import { decodeJwt, decodeProtectedHeader } from "jose";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { dial } from "../../apps/controller/tests/dial.ts";
import { dialSse } from "../../apps/controller/tests/dial-sse.ts";
import { dialWs } from "../../apps/controller/tests/dial-ws.ts";
import { server } from "../../apps/controller/tests/directory-server.ts";
import { type IdentityLab, Machine, openIdentityLab } from "../../apps/controller/tests/identity-lab.ts";
import { call, type Reply } from "../../apps/controller/tests/open-test-listeners.ts";

/**
 * Signing keys rotate, and no agent notices (issue 5). 200 clients on all channels, each with a connection of its own,
 * speak to two controllers on PostgreSQL while the keys change every second instead of every day. Whatever one
 * replica signs is shown to the other one at once.
 */
const agentsMax = 200;
const rotationsMin = 3;
const times = { keys: { rotateMs: 1_000, aheadMs: 500, overlapMs: 1_200_000 }, refreshKeysMs: 100 };
const kinds = ["grpc", "websocket", "sse", "poll"] as const;

/** What one agent does on its channel, once; throws when it is not answered as it should be. */
interface Talk extends AsyncDisposable {
  round(): Promise<void>;
}

const keyOf = (token: string): string => decodeProtectedHeader(token).kid ?? "";

describe.skipIf(!server.available)("signing keys rotate under 200 agents", () => {
  let dir: string;
  let lab: IdentityLab;
  let database: Awaited<ReturnType<typeof server.create>>;
  const stops: (() => Promise<void>)[] = [];
  const agents: Agent[] = [];

  beforeAll(async () => {
    database = await server.create();
    const limits = ["connections", "unknown", "operator"].flatMap((name) => [
      `--limits-${name}-per-second`,
      "100000",
    ]);
    dir = await mkdtemp(join(tmpdir(), "mig-rotation-"));
    const masterKey = join(dir, "master.key");
    await writeFile(masterKey, randomBytes(32).toString("base64"), { mode: 0o600 });
    lab = await openIdentityLab({
      databaseUrl: database.url,
      replicas: 2,
      times,
      flags: ["--secrets-master-key", `file://${masterKey}`, ...limits],
      atEnd: (stop) => void stops.push(stop),
    });
    const token = await lab.joinToken({ uses_max: agentsMax });
    for (let n = 0; n < agentsMax; n += 1) agents.push(new Agent(lab, n));
    // A few at a time: bench/join.ts is about a crowd, and two controllers in one process on a busy machine are none.
    for (let n = 0; n < agentsMax; n += 20)
      await Promise.all(agents.slice(n, n + 20).map((agent) => agent.join(token)));
  });
  afterAll(async () => {
    await Promise.all(agents.map((agent) => agent.hangUp()));
    for (const stop of stops) await stop();
    await database.drop();
    await rm(dir, { recursive: true, force: true });
  });

  it("not one call fails, and the first token of each is good to its end", async () => {
    const signers = new Set<string>();
    let calls = 0;
    await Promise.all(
      agents.map(async (agent) => {
        await agent.dial();
        do {
          await agent.talk?.round();
          signers.add(keyOf(await agent.renew()));
          calls += 1;
        } while (signers.size <= rotationsMin);
        // With the newest token from now on, as after any reconnect.
        await agent.hangUp();
        await agent.dial();
        await agent.talk?.round();
      }),
    );
    expect(calls).toBeGreaterThanOrEqual(agentsMax);
    expect(signers.size).toBeGreaterThan(rotationsMin);
    const published = (await call(`${lab.url}/.well-known/jwks.json`)).body.keys as { kid: string }[];
    expect(published.map(({ kid }) => kid)).toEqual(expect.arrayContaining([...signers]));
    for (const agent of agents) {
      const replies = await Promise.all(lab.controllers.map(({ url }) => beat(url, agent, agent.first)));
      expect(replies.map(({ status }) => status)).toEqual([200, 200]);
    }
  });

  it("what a removed key has signed is good for nothing, on both, and everybody else goes on", async () => {
    const leaked = keyOf(agents[0]?.first ?? "");
    expect(await removeKeys(database.url, leaked)).toEqual([leaked]);
    const victims = agents.filter(({ first }) => keyOf(first) === leaked).slice(0, 4);
    for (const { url } of lab.controllers)
      for (const agent of victims)
        await waitFor(
          `${agent.vmId} to be refused`,
          async () => (await beat(url, agent, agent.first)).status === 401,
        );
    // Those that have renewed since then, on the streams that they have now.
    const others = agents.filter(({ newest }) => keyOf(newest) !== leaked);
    expect(others.length).toBeGreaterThan(agentsMax / 2);
    await Promise.all(others.map((agent) => agent.talk?.round()));
    // The key of the machine is as good as before: it has a token again without joining.
    for (const agent of victims) {
      await agent.renew();
      expect((await beat(lab.url, agent, agent.newest)).status).toBe(200);
    }
  });

  it("when the key that signs is removed, the next one is known to both at once", async () => {
    const [agent] = agents;
    if (agent === undefined) throw new Error("no agent");
    const removed = await removeKeys(database.url);
    await waitFor("a token with a new key", async () => {
      const token = await agent.renew().catch(() => undefined);
      return token !== undefined && !removed.includes(keyOf(token));
    });
    for (const { url } of lab.controllers) expect((await beat(url, agent, agent.newest)).status).toBe(200);
  });
});

/** As when they leaked: one, or all of them. */
async function removeKeys(url: string, kid?: string): Promise<string[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const all = "delete from signing_keys where $1::text is null or kid = $1 returning kid";
    return (await client.query<{ kid: string }>(all, [kid ?? null])).rows.map((row) => row.kid);
  } finally {
    await client.end();
  }
}

function beat(url: string, { vmId }: Agent, token: string): Promise<Reply> {
  const headers = { authorization: `Bearer ${token}` };
  return call(`${url}/api/v1/vms/${vmId}/heartbeat`, { json: { miglet_state: "idle" }, headers });
}

/** Its streams are at one controller; its token is from the other one. */
class Agent {
  readonly vmId: string;
  readonly #kind: (typeof kinds)[number];
  readonly #url: string;
  readonly #machine: Machine;
  talk: Talk | undefined;
  first = "";
  newest = "";

  constructor(lab: IdentityLab, n: number) {
    this.vmId = `vm-${n}`;
    this.#kind = kinds[n % kinds.length] ?? "poll";
    const [near, far] = lab.controllers.map(({ url }) => url).sort(() => (n % 8 < 4 ? 0 : -1));
    this.#url = near ?? "";
    this.#machine = new Machine(far ?? "", this.vmId);
  }

  async join(token: string): Promise<void> {
    this.first = accepted(await this.#machine.join(token)).body.access_token;
    this.newest = this.first;
    expect(decodeJwt(this.first).sub).toBe(this.vmId);
  }

  async renew(): Promise<string> {
    this.newest = accepted(await this.#machine.renew()).body.access_token;
    return this.newest;
  }

  async dial(): Promise<void> {
    const headers = { authorization: `Bearer ${this.newest}` };
    const path = `${this.#url}/api/v1/vms/${this.vmId}/commands`;
    if (this.#kind === "grpc") this.talk = await this.#dialGrpc(headers);
    else if (this.#kind === "websocket") this.talk = await this.#dialSocket(`${path}/ws`, headers);
    else if (this.#kind === "sse") {
      const stream = await dialSse(`${path}/stream?protocol_version=1`, headers);
      await stream.next("connect_ack");
      this.talk = this.#asking(async () => expect(hasEnded(stream.ended)).resolves.toBe(false), stream);
    } else
      this.talk = this.#asking(async () => {
        accepted(
          await call(`${path}?protocol_version=1`, { headers: { authorization: `Bearer ${this.newest}` } }),
        );
      });
  }

  async hangUp(): Promise<void> {
    await this.talk?.[Symbol.asyncDispose]();
    this.talk = undefined;
  }

  async #dialGrpc(headers: Record<string, string>): Promise<Talk> {
    const stream = dial(Number(new URL(this.#url).port), headers);
    stream.connect(this.vmId, { poolId: "pool-a" });
    await stream.next("connect_ack");
    return {
      round: async () => {
        stream.beat(this.vmId, { poolId: "pool-a" });
        stream.event(this.vmId, { poolId: "pool-a" });
        await Promise.all([stream.next("heartbeat_ack"), stream.next("event_ack")]);
        expect(stream.heard.filter(({ kind }) => kind === "error" || kind === "go_away")).toEqual([]);
      },
      [Symbol.asyncDispose]: () => stream[Symbol.asyncDispose](),
    };
  }

  async #dialSocket(url: string, headers: Record<string, string>): Promise<Talk> {
    const socket = await dialWs(url, { headers });
    socket.connect(this.vmId, { pool_id: "pool-a" });
    await socket.next("connect_ack");
    return {
      round: async () => {
        socket.say({ kind: "heartbeat", miglet_state: "idle" });
        socket.say({ kind: "event", type: "job_heartbeat" });
        await Promise.all([socket.next("heartbeat_ack"), socket.next("event_ack")]);
        expect(socket.heard.filter(({ kind }) => kind === "error" || kind === "go_away")).toEqual([]);
      },
      [Symbol.asyncDispose]: () => socket[Symbol.asyncDispose](),
    };
  }

  /** Of the channels that bring commands only: the rest goes by requests, with the newest token. */
  #asking(look: () => Promise<void>, stream?: AsyncDisposable): Talk {
    return {
      round: async () => {
        await look();
        accepted(await beat(this.#url, this, this.newest));
        const headers = { authorization: `Bearer ${this.newest}` };
        const json = { type: "job_heartbeat", vm_id: this.vmId };
        accepted(await call(`${this.#url}/api/v1/vms/${this.vmId}/events`, { json, headers }));
      },
      [Symbol.asyncDispose]: async () => stream?.[Symbol.asyncDispose](),
    };
  }
}

function accepted(reply: Reply): Reply {
  if (reply.status !== 200) throw new Error(`${reply.status} ${JSON.stringify(reply.body)}`);
  return reply;
}

function hasEnded(ended: Promise<void>): Promise<boolean> {
  return Promise.race([ended.then(() => true), Promise.resolve(false)]);
}
