import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { describe } from "vitest";
import { openStore, type Store } from "../src/store/open-store.ts";
import { furnish } from "./pglite-template.ts";

/** Which databases the store's tests run on. A server is used when it answers; `.ci/run` demands that it does. */
const serverUrl = process.env["MIG_TEST_DATABASE_URL"] ?? "postgres://postgres@127.0.0.1:5432/postgres";

export interface Engine {
  name: string;
  available: boolean;
  /** A new, empty database. */
  create(): Promise<{ open(): Promise<Store>; drop(): Promise<void>; url?: string }>;
}

const pglite: Engine = {
  name: "PGlite",
  available: true,
  async create() {
    const dataDir = await mkdtemp(join(tmpdir(), "mig-store-"));
    await furnish(dataDir);
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
      url: url.href,
    };
  },
};

if (!server.available && process.env["MIG_TEST_REQUIRE_SERVERS"] === "1") {
  throw new Error(
    "no PostgreSQL server answers: set MIG_TEST_DATABASE_URL, or install the Debian package postgresql",
  );
}

/** The same tests on each engine. Without a server its half is skipped by name; `npm test` says how to get one. */
export function describeOnEngines(what: string, tests: (engine: Engine) => void): void {
  for (const engine of [pglite, server]) {
    describe.skipIf(!engine.available)(`${what} on ${engine.name}`, () => tests(engine));
  }
}

/** For what says little about databases and takes long: the server, or PGlite where there is none. */
export function describeOnOneEngine(what: string, tests: (engine: Engine) => void): void {
  const engine = server.available ? server : pglite;
  describe(`${what} on ${engine.name}`, () => tests(engine));
}

/** For what only a server has: several processes on one database. */
export function describeOnServer(what: string, tests: (engine: Engine) => void): void {
  describe.skipIf(!server.available)(`${what} on ${server.name}`, () => tests(server));
}

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
