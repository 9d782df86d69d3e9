import { randomBytes } from "node:crypto";
import { createLog, waitFor } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import {
  createAppKey,
  type Github,
  type GithubFault,
  githubCalls,
  githubFaults,
  startGithub,
} from "@mig/sandbox";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, it } from "vitest";
import { readAppKey } from "../src/github/app-jwt.ts";
import type { Grant, Pool } from "../src/github/grant-source.ts";
import { type OpenGrants, openGrants } from "../src/runner/open-grants.ts";
import { createSealer } from "../src/runner/seal.ts";
import type { Store } from "../src/store/open-store.ts";
import { describeOnOneEngine } from "./engines.ts";

/**
 * R08: everything that GitHub can answer with × the calls that a grant needs. It ends in success within five seconds
 * of GitHub's recovery, or in the right error for the agent; no VM is stuck; and no secret shows, in a log, an error,
 * an alarm or the database. Each case has a GitHub and an App of its own; all of them share the store, and run at once.
 */
const key = createAppKey();
const sealer = createSealer(randomBytes(32));
const calls = ["installation", "token", "grant"] as const;
const cases = githubFaults.flatMap((fault) =>
  calls
    .filter((call) => fault.on.includes(call))
    .map((call) => ({ name: `${fault.name}, on ${call}`, fault, call })),
);
/** A hundred megabytes keep this thread so busy that the others would see nothing but their own time limit. */
const isBig = ({ fault: { fault } }: (typeof cases)[number]): boolean =>
  fault.deliver === "huge" || fault.deliver === "bomb";
const atOnce = 8;
/** GitHub is well again after so long. */
const outageMs = 600;
const recoveryMs = 5_000;
/** For one request; a slow answer is no answer. */
const timeoutMs = 1_000;

describeOnOneEngine("GitHub's faults", (engine) => {
  let database: Awaited<ReturnType<typeof engine.create>>;
  let store: Store;
  const end = new AbortController();
  const lines: string[] = [];
  const secrets = new Set<string>();
  const opened: OpenGrants[] = [];
  beforeAll(async () => {
    database = await engine.create();
    store = await database.open();
    for (const line of key.privateKeyPem.split("\n").filter((text) => text.length > 40)) secrets.add(line);
  });
  afterAll(async () => {
    end.abort();
    for (const one of opened) await one[Symbol.asyncDispose]();
    await store[Symbol.asyncDispose]();
    await database.drop();
  });

  interface Outcome {
    grant?: Grant;
    error?: MigError;
    /** From GitHub's recovery. */
    afterMs: number;
  }

  async function run(n: number, { fault, call }: (typeof cases)[number]): Promise<Outcome> {
    const github: Github = await startGithub({ publicKeyPem: key.publicKeyPem, appId: 1234 });
    const pool: Pool = {
      id: `pool-${n}`,
      orgId: "acme",
      runnerUrl: `${github.webUrl}/acme`,
      runnerGroup: "default",
      labels: ["self-hosted", "linux"],
      registration: n % 2 === 0 ? "jit" : "token",
    };
    const app = `app-${n}`;
    const grants = openGrants({
      store,
      apps: [
        {
          id: app,
          apiUrl: github.url,
          appId: "1234",
          keys: async () => [readAppKey(key.privateKeyPem)],
          timeoutMs,
          perMinuteStart: 60_000,
          perMinuteMax: 60_000,
        },
      ],
      appOf: () => app,
      poolOf: () => pool,
      sealer,
      wakeVm: () => {},
      onAlarm: (alarm) => lines.push(JSON.stringify(alarm)),
      log: createLog({ level: "debug", format: "json", write: (line) => void lines.push(line) }),
      signal: end.signal,
    });
    opened.push(grants);
    await github.addFault({ ...fault.fault, ...githubCalls[call] });
    const beganMs = performance.now();
    // A limit is GitHub's word and outlasts its recovery; what a person has to mend is not mended here.
    const recovered =
      fault.kind === "passes"
        ? new Promise<void>((resolve) => setTimeout(resolve, outageMs)).then(() => github.clearFaults())
        : Promise.resolve();
    const ask = {
      vmId: `vm-${n}`,
      incarnation: "boot-1",
      requestId: `command-${n}`,
      orgId: "acme",
      poolId: pool.id,
      pool,
    };
    try {
      const grant = await grants.source.take(ask, fault.kind === "limit" ? 2_500 : outageMs + recoveryMs);
      secrets.add(grant.jitConfig ?? grant.registrationToken ?? "nothing");
      return { grant, afterMs: performance.now() - beganMs - outageMs };
    } catch (error) {
      if (!(error instanceof MigError)) throw error;
      lines.push(JSON.stringify({ code: error.code, message: error.message, cause: String(error.cause) }));
      return { error, afterMs: performance.now() - beganMs - outageMs };
    } finally {
      await recovered;
      await github.close();
    }
  }

  function problemOf({ kind, name }: GithubFault, { grant, error, afterMs }: Outcome): string | undefined {
    const told = error === undefined ? "success" : `${error.code} (${error.category}): ${error.message}`;
    if (grant !== undefined) {
      if (grant.expiresAtMs <= Date.now()) return `${told}, of a grant that has expired`;
      return afterMs <= recoveryMs ? undefined : `${told} only after ${Math.round(afterMs)} ms`;
    }
    if (kind === "passes") return told;
    if (kind === "limit")
      return error?.code === "github_rate_limited" && (error.retryAfterMs ?? 0) > 0 ? undefined : told;
    // For good: the agent learns that waiting does not help, and the operator what to do.
    const isPlain = error?.category === "misconfig" || error?.category === "permanent";
    return isPlain || name.includes("taken") ? undefined : told;
  }

  it("each ends in success, or in the right error", { timeout: 240_000 }, async () => {
    const outcomes = new Map<string, Outcome>();
    const numbered = cases.map((one, n) => ({ one, n }));
    const worker = async (waiting: typeof numbered): Promise<void> => {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift())
        outcomes.set(next.one.name, await run(next.n, next.one));
    };
    const small = numbered.filter(({ one }) => !isBig(one));
    await Promise.all(Array.from({ length: atOnce }, () => worker(small)));
    await worker(numbered.filter(({ one }) => isBig(one)));
    const wrong = cases.flatMap(({ name, fault }) => {
      const outcome = outcomes.get(name);
      const problem = outcome === undefined ? "did not run" : problemOf(fault, outcome);
      return problem === undefined ? [] : [`${name} [${fault.kind}]: ${problem}`];
    });
    expect(cases.length).toBeGreaterThan(100);
    expect(wrong).toEqual([]);
  });

  it("nobody is stuck: what was given out is made, what failed is over, the rest has its time", async () => {
    await waitFor(
      "calls under way to end",
      async () => {
        const { rows } = await store.transact((tx) =>
          sql`select 1 from grants where state = 'making' limit 1`.execute(tx),
        );
        return rows.length === 0;
      },
      { timeoutMs: 20_000 },
    );
    const { rows } = await store.transact((tx) =>
      sql<{ state: string; waits: boolean }>`select state, not_before is not null as waits from grants
        where state not in ('made', 'failed')`.execute(tx),
    );
    expect(rows.filter(({ state, waits }) => state !== "wanted" || !waits)).toEqual([]);
  });

  it("no secret shows anywhere", async () => {
    expect(secrets.size).toBeGreaterThan(50);
    const { rows: tables } = await store.transact((tx) =>
      sql<{ name: string }>`select table_name as name from information_schema.tables
        where table_schema = 'public' and table_type = 'BASE TABLE'`.execute(tx),
    );
    const dump: string[] = [];
    for (const { name } of tables)
      dump.push(
        JSON.stringify((await store.transact((tx) => sql`select * from ${sql.raw(name)}`.execute(tx))).rows),
      );
    const all = [...lines, ...dump].join("\n");
    expect([...secrets].filter((secret) => all.includes(secret))).toEqual([]);
    expect(all).not.toMatch(/gh[sp]_[A-Za-z0-9]{16}|-----BEGIN/);
  });
});
