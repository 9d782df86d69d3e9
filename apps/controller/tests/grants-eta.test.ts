import { randomBytes } from "node:crypto";
import { silentLog } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { createAppKey, type Github, startGithub } from "@mig/sandbox";
import { sql } from "kysely";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { readAppKey } from "../src/github/app-jwt.ts";
import type { Pool } from "../src/github/grant-source.ts";
import { etaOf, type PaceView } from "../src/github/pace-eta.ts";
import { type OpenGrants, openGrants } from "../src/runner/open-grants.ts";
import { createSealer } from "../src/runner/seal.ts";
import type { Store } from "../src/store/open-store.ts";
import { describeOnOneEngine } from "./engines.ts";

/** How true the time is that a waiting VM is told: within 20 %, or within a second. */
const isTrue = (toldMs: number, realMs: number): boolean =>
  Math.abs(toldMs - realMs) <= Math.max(1_000, 0.2 * realMs);

describe("the time until a turn", () => {
  const start: PaceView = { openInMs: 0, perMinute: 120, perMinuteMax: 170, stepUp: 10, cleanForMs: 0 };
  const views: [name: string, view: PaceView][] = [
    ["at the start", start],
    ["after a limit that halved the pace", { ...start, openInMs: 60_000, perMinute: 60 }],
    ["after a long rest", { ...start, cleanForMs: 3_600_000 }],
    ["in the middle of a minute", { ...start, perMinute: 140, cleanForMs: 31_000 }],
    ["at the full pace", { ...start, openInMs: 400, perMinute: 170, cleanForMs: 5_000 }],
    ["at more than is configured now", { ...start, perMinute: 300 }],
  ];

  it.each(views)("is true for each of a thousand, %s", (_name, view) => {
    const turns = simulate(view, 1_000);
    const wrong = turns.filter((realMs, ahead) => Math.abs(etaOf(view, ahead) - realMs) > 1_000);
    expect(wrong).toEqual([]);
  });

  /** The shared row, call by call: what pace.ts does with it (`reserve`). */
  function simulate(view: PaceView, calls: number): number[] {
    const turns: number[] = [];
    let nextMs = view.openInMs;
    let { perMinute } = view;
    let cleanSinceMs = -view.cleanForMs;
    for (let i = 0; i < calls; i += 1) {
      turns.push(nextMs);
      const before = perMinute;
      if (nextMs - cleanSinceMs >= 60_000) {
        perMinute = Math.min(perMinute + view.stepUp, view.perMinuteMax);
        cleanSinceMs = nextMs;
      }
      nextMs += 60_000 / before;
    }
    return turns;
  }
});

describeOnOneEngine("the time that waiting VMs are told", (engine) => {
  const key = createAppKey();
  const sealer = createSealer(randomBytes(32));
  const perMinute = 1_200;
  const sizes = [80, 30, 10];
  let ends: AbortController;
  let github: Github;
  let database: Awaited<ReturnType<typeof engine.create>>;
  let store: Store;
  let pools: Pool[];
  let open: OpenGrants[];

  beforeEach(async () => {
    ends = new AbortController();
    github = await startGithub({ publicKeyPem: key.publicKeyPem, appId: 1234 });
    database = await engine.create();
    store = await database.open();
    pools = sizes.map((_, i) => ({
      id: `pool-${i}`,
      orgId: "acme",
      runnerUrl: `${github.webUrl}/acme`,
      runnerGroup: "default",
      labels: ["self-hosted"],
      registration: "jit",
    }));
    open = [];
  });
  afterEach(async () => {
    ends.abort();
    for (const grants of open) await grants[Symbol.asyncDispose]();
    await store[Symbol.asyncDispose]();
    await database.drop();
    await github.close();
  });

  function openReplica(perMinuteStart = perMinute, perMinuteMax = perMinuteStart): OpenGrants {
    const grants = openGrants({
      store,
      apps: [
        {
          id: "default",
          apiUrl: github.url,
          appId: "1234",
          keys: async () => [readAppKey(key.privateKeyPem)],
          perMinuteStart,
          perMinuteMax,
        },
      ],
      appOf: () => "default",
      poolOf: (id) => pools.find((pool) => pool.id === id),
      sealer,
      wakeVm: () => {},
      onAlarm: () => {},
      log: silentLog,
      signal: ends.signal,
    });
    open.push(grants);
    return grants;
  }

  /** What one is told when its grant is not there at once. */
  async function askOnce(replica: OpenGrants | undefined, pool: Pool, vmId: string): Promise<number> {
    const ask = { vmId, incarnation: "b", requestId: "r", orgId: "acme", poolId: pool.id, pool };
    const told = await replica?.source.take(ask, 0).catch((error: unknown) => error);
    if (!(told instanceof MigError) || told.code !== "github_rate_limited") return 0;
    return told.retryAfterMs ?? 0;
  }

  // Replicas share a server, not PGlite's one process.
  it.skipIf(engine.name === "PGlite")(
    "is when its grant comes, for nine of ten at least, through two replicas",
    async () => {
      const replicas = [openReplica(), openReplica()];
      const vms = pools.flatMap((pool, p) =>
        Array.from({ length: sizes[p] ?? 0 }, (_, i) => ({ pool, vmId: `${pool.id}-vm-${i}` })),
      );
      // All wishes are there before anybody is told: a line into which others come is longer than was told.
      await Promise.all(vms.map(({ pool, vmId }, n) => askOnce(replicas[n % 2], pool, vmId)));
      const told = await Promise.all(
        vms.map(async ({ pool, vmId }, n) => {
          const etaMs = await askOnce(replicas[(n + 1) % 2], pool, vmId);
          return { vmId, etaMs, atMs: Date.now() };
        }),
      );
      // Who comes back too early is told the time again; it waits in its call here.
      await Promise.all(
        vms.map(({ pool, vmId }, n) =>
          replicas[n % 2]?.source.take(
            { vmId, incarnation: "b", requestId: "r", orgId: "acme", poolId: pool.id, pool },
            30_000,
          ),
        ),
      );
      const { rows } = await store.transact((tx) =>
        sql<{ vm_id: string; at: number }>`select vm_id, (extract(epoch from made_at) * 1000)::float8 as at
        from grants where state = 'made'`.execute(tx),
      );
      const madeAtMs = new Map(rows.map(({ vm_id: vmId, at }) => [vmId, at]));
      const waited = told.filter(({ etaMs }) => etaMs > 0);
      const wrong = waited.filter(
        ({ vmId, etaMs, atMs }) => !isTrue(etaMs, (madeAtMs.get(vmId) ?? 0) - atMs),
      );
      expect(waited.length).toBeGreaterThan(vms.length / 2);
      expect(wrong.length, JSON.stringify(wrong)).toBeLessThanOrEqual(waited.length / 10);
    },
    30_000,
  );

  it("a replica that has called nobody yet knows the pace and the limit that another one met", async () => {
    await store.transact((tx) =>
      sql`insert into github_pace (key, per_minute, next_at, blocked_until, clean_since)
        values ('default', 30, now(), now() + interval '40 seconds', now())`.execute(tx),
    );
    const [pool] = pools;
    if (pool === undefined) throw new Error("no pool");
    const replica = openReplica(120, 170);
    await askOnce(replica, pool, "vm-1");
    const toldMs = await askOnce(replica, pool, "vm-2");
    // The limit, and one before it at thirty a minute.
    expect(toldMs).toBeGreaterThan(40_000);
    expect(toldMs).toBeLessThan(43_000);
  });

  it("what the last try was told is counted from then, not again from each question", async () => {
    await github.addFault({
      path: "jitconfig",
      status: 429,
      headers: { "retry-after": "3", "x-ratelimit-remaining": "0" },
    });
    const [pool] = pools;
    if (pool === undefined) throw new Error("no pool");
    const replica = openReplica();
    const ask = { vmId: "vm-1", incarnation: "b", requestId: "r", orgId: "acme", poolId: pool.id, pool };
    const limited = await replica.source.take(ask, 2_000).catch((error: unknown) => error);
    expect(limited).toBeInstanceOf(MigError);
    // Two of the three seconds have passed.
    expect((limited as MigError).retryAfterMs).toBeLessThanOrEqual(1_500);
    expect((await replica.source.take(ask, 10_000)).jitConfig).toBeDefined();
  });
});
