import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog } from "@mig/kit";
import pg from "pg";
import type { GrantSource } from "../src/github/grant-source.ts";
import type { Desk } from "../src/session/desk.ts";
import { openDesk } from "../src/session/open-desk.ts";
import type { Parts } from "../src/session/parts.ts";
import { Registry } from "../src/session/registry.ts";
import { openStore, type Store } from "../src/store/open-store.ts";

/** Which databases the store's tests run on. A server is used when it answers; `.ci/run` demands that it does. */
const serverUrl = process.env["MIG_TEST_DATABASE_URL"] ?? "postgres://postgres@127.0.0.1:5432/postgres";

export interface Engine {
  name: string;
  available: boolean;
  /** A new, empty database. */
  create(): Promise<{ open(): Promise<Store>; drop(): Promise<void> }>;
}

const pglite: Engine = {
  name: "PGlite",
  available: true,
  async create() {
    const dataDir = await mkdtemp(join(tmpdir(), "mig-store-"));
    return { open: () => openStore({ dataDir }), drop: () => rm(dataDir, { recursive: true, force: true }) };
  },
};

const server: Engine = {
  name: "PostgreSQL server",
  available: await answers(serverUrl),
  async create() {
    const name = `mig_test_${randomBytes(6).toString("hex")}`;
    await run(`create database ${name}`);
    const url = new URL(serverUrl);
    url.pathname = `/${name}`;
    return {
      open: () => openStore({ dataDir: "", databaseUrl: url.href }),
      drop: () => run(`drop database ${name} with (force)`),
    };
  },
};

if (!server.available) {
  const hint = "set MIG_TEST_DATABASE_URL, or install the Debian package postgresql";
  if (process.env["MIG_TEST_REQUIRE_SERVERS"] === "1")
    throw new Error(`no PostgreSQL server answers: ${hint}`);
  console.warn(`skipped on a PostgreSQL server: none answers (${hint})`);
}

export const engines: Engine[] = [pglite, server].filter((engine) => engine.available);

async function run(statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: serverUrl });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}

async function answers(url: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 1_000 });
  try {
    await client.connect();
    await client.end();
    return true;
  } catch {
    return false;
  }
}

export const fixedGrants: GrantSource = {
  issue: async (wish) => ({
    registrationToken: `token-for-${wish.vmId}`,
    runnerName: wish.runnerName,
    expiresAtMs: Date.now() + 3_600_000,
    runnerUrl: wish.pool.runnerUrl,
    runnerGroup: wish.pool.runnerGroup,
    labels: wish.pool.labels,
  }),
  remove: async () => "unknown",
};

export interface TestDesk extends AsyncDisposable {
  desk: Desk;
  store: Store;
  registry: Registry;
}

/** A desk on a store, with times a hundred times shorter than in the field. */
export function openTestDesk(store: Store, more: Partial<Parts> = {}): TestDesk {
  const end = new AbortController();
  const registry = new Registry();
  const opened = openDesk({
    store,
    registry,
    grants: fixedGrants,
    rules: { commandExpiryMs: 60_000, commandAckMs: 300, registrationsMax: 3 },
    pace: {
      heartbeatIntervalMs: 150,
      silence: { unreachableAfterMs: 450, lostAfterMs: 1_200, lostWithJobAfterMs: 3_000 },
      graceMs: 450,
      sweepMs: 20,
    },
    log: silentLog,
    signal: end.signal,
    poolOf: (id) => ({
      id,
      runnerUrl: "https://github.com/testorg",
      runnerGroup: "default",
      labels: ["self-hosted", "linux", "x64"],
      registration: "token",
    }),
    ...more,
  });
  return {
    desk: opened.desk,
    store,
    registry,
    async [Symbol.asyncDispose]() {
      end.abort();
      await opened[Symbol.asyncDispose]();
    },
  };
}
