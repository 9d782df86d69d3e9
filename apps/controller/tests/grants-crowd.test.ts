import { randomBytes } from "node:crypto";
import { pause, silentLog } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { createAppKey, type Github, startGithub } from "@mig/sandbox";
import { sql } from "kysely";
import { afterEach, beforeEach, expect, it } from "vitest";
import { readAppKey } from "../src/github/app-jwt.ts";
import type { Pool } from "../src/github/grant-source.ts";
import { type OpenGrants, openGrants } from "../src/runner/open-grants.ts";
import { createSealer } from "../src/runner/seal.ts";
import type { Store } from "../src/store/open-store.ts";
import { describeOnOneEngine } from "./engines.ts";

/** Everybody at once, as after an outage: in short calls, each told when to come back, and coming back then. */
const key = createAppKey();
const perMinute = 3_000;
/** A few that are on their way are not yet a faster pace. */
const burstMax = 16;

describeOnOneEngine("a crowd that wants grants", (engine) => {
  // Replicas share a server; PGlite has one process, and takes much longer to say the same.
  const test = it.skipIf(engine.name === "PGlite");
  const replicas = 2;
  const sizes = [600, 250, 100, 40, 10];
  let ends: AbortController;
  let github: Github;
  let database: Awaited<ReturnType<typeof engine.create>>;
  let stores: Store[];
  let open: OpenGrants[];
  let pools: Pool[];

  beforeEach(async () => {
    ends = new AbortController();
    github = await startGithub({ publicKeyPem: key.publicKeyPem, appId: 1234 });
    database = await engine.create();
    const sealer = createSealer(randomBytes(32));
    pools = sizes.map((_, i) => ({
      id: `pool-${i}`,
      orgId: "acme",
      runnerUrl: `${github.webUrl}/acme`,
      runnerGroup: "default",
      labels: ["self-hosted"],
      registration: "jit",
    }));
    stores = [];
    for (let i = 0; i < replicas; i += 1) stores.push(await database.open());
    open = stores.map((store) =>
      openGrants({
        store,
        apps: [
          {
            id: "default",
            apiUrl: github.url,
            appId: "1234",
            keys: async () => [readAppKey(key.privateKeyPem)],
            perMinuteStart: perMinute,
            perMinuteMax: perMinute,
          },
        ],
        appOf: () => "default",
        poolOf: (id) => pools.find((pool) => pool.id === id),
        sealer,
        wakeVm: () => {},
        onAlarm: () => {},
        log: silentLog,
        signal: ends.signal,
      }),
    );
  });
  afterEach(async () => {
    ends.abort();
    for (const grants of open) await grants[Symbol.asyncDispose]();
    for (const store of stores) await store[Symbol.asyncDispose]();
    await database.drop();
    await github.close();
  });

  test("is served once each, in turns, at the pace, after GitHub's pause, and told to come back", async () => {
    // The hour is used up for four seconds, which is no reason to be slower than before.
    const headers = { "retry-after": "4", "x-ratelimit-remaining": "0" };
    await github.addFault({ path: "jitconfig", status: 429, headers });
    const told: { etaMs: number; nth: number }[] = [];
    const names: string[] = [];
    const vms = pools.flatMap((pool, p) => Array.from({ length: sizes[p] ?? 0 }, (_, i) => ({ pool, i })));
    await Promise.all(
      vms.map(async ({ pool, i }, n) => {
        let nth = 0;
        const vmId = `${pool.id}-vm-${i}`;
        const ask = { vmId, incarnation: "b1", requestId: "r1", orgId: "acme", poolId: pool.id, pool };
        for (;;) {
          try {
            const grant = await open[n % replicas]?.source.take(ask, 200);
            expect(grant?.jitConfig).toBeDefined();
            names.push(grant?.runnerName ?? "");
            break;
          } catch (error) {
            if (!(error instanceof MigError)) throw error;
            expect(error).toMatchObject({ code: "github_rate_limited", retryAfterMs: expect.any(Number) });
            const etaMs = error.retryAfterMs ?? 0;
            told.push({ etaMs, nth });
            nth += 1;
            await pause(etaMs);
          }
        }
      }),
    );

    // No VM twice, at us and at GitHub (T1).
    const runners = await github.runners();
    expect(new Set(names).size).toBe(vms.length);
    expect(runners.map((runner) => runner.name).sort()).toEqual([...names].sort());
    // Nobody before the end of the Retry-After (T2).
    expect((await github.traffic()).tooEarly).toBe(0);
    // Never faster than the pace, in whichever window.
    const calls = (await github.requests()).filter(({ path }) => path.endsWith("/generate-jitconfig"));
    const at = calls.map((call) => Date.parse(call.at)).sort((a, b) => a - b);
    for (const windowMs of [1_000, 5_000, 60_000])
      expect(mostWithin(at, windowMs)).toBeLessThanOrEqual((perMinute * windowMs) / 60_000 + burstMax);
    // Pools take turns while they have somebody waiting, however long their lines are.
    expect(jain(await servedWhileAllWait())).toBeGreaterThanOrEqual(0.95);
    // Who waits is told when; how true that is, grants-eta.test.ts holds.
    const later = told.filter(({ nth, etaMs }) => nth > 0 && etaMs >= 3_000);
    expect(later.length).toBeGreaterThan(vms.length / 10);
  }, 90_000);

  /** How many each pool got until the first one had nobody left. */
  async function servedWhileAllWait(): Promise<number[]> {
    const { rows } = await (stores[0] as Store).transact((tx) =>
      sql<{ pool_id: string }>`select pool_id from grants order by made_at, id`.execute(tx),
    );
    const served = new Map(pools.map((pool) => [pool.id, 0]));
    for (const { pool_id: id } of rows) {
      served.set(id, (served.get(id) ?? 0) + 1);
      if (served.get(id) === sizes[pools.findIndex((pool) => pool.id === id)]) break;
    }
    return [...served.values()];
  }
});

/** Jain's index of fairness: 1 when all have the same. */
function jain(shares: readonly number[]): number {
  const sum = shares.reduce((a, b) => a + b, 0);
  return sum ** 2 / (shares.length * shares.reduce((a, b) => a + b ** 2, 0));
}

function mostWithin(at: readonly number[], windowMs: number): number {
  let most = 0;
  for (let from = 0, to = 0; to < at.length; to += 1) {
    while ((at[to] ?? 0) - (at[from] ?? 0) >= windowMs) from += 1;
    most = Math.max(most, to - from + 1);
  }
  return most;
}
