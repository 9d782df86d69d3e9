import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe } from "vitest";
import { openStore, type Store } from "../src/store/open-store.ts";
import { furnish } from "./pglite-template.ts";
import { answersHere, newServerDatabase, onServer } from "./server-database.ts";
import { serverTemplate } from "./server-template.ts";

/** Which databases the store's tests run on. */
export interface Engine {
  name: string;
  available: boolean;
  /** A new database with all tables and no rows. */
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
  available: await answersHere(),
  async create() {
    const { name, url } = await newServerDatabase(await serverTemplate());
    return {
      open: () => openStore({ dataDir: "", databaseUrl: url }),
      drop: () => onServer(`drop database ${name} with (force)`),
      url,
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

/**
 * For what says little about databases and takes long: the server, or PGlite where there is none. The statements are
 * the same, and PGlite is PostgreSQL; with MIG_TEST_ALL_ENGINES=1 both are tried (`npm run test:engines`).
 */
export function describeOnOneEngine(what: string, tests: (engine: Engine) => void): void {
  if (process.env["MIG_TEST_ALL_ENGINES"] === "1") describeOnEngines(what, tests);
  else {
    const engine = server.available ? server : pglite;
    describe(`${what} on ${engine.name}`, () => tests(engine));
  }
}

/** For what only a server has: several processes on one database. */
export function describeOnServer(what: string, tests: (engine: Engine) => void): void {
  describe.skipIf(!server.available)(`${what} on ${server.name}`, () => tests(server));
}
