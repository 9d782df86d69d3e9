import { randomBytes } from "node:crypto";
import pg from "pg";

/** A PostgreSQL server for several controllers at once; engines.ts says how to get one. */
const serverUrl = process.env["MIG_TEST_DATABASE_URL"] ?? "postgres://postgres@127.0.0.1:5432/postgres";

async function run(statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: serverUrl, connectionTimeoutMillis: 3_000 });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}

export const server = {
  available: await run("select 1").then(
    () => true,
    () => false,
  ),
  async create() {
    const name = `mig_test_${randomBytes(6).toString("hex")}`;
    await run(`create database ${name}`);
    const url = new URL(serverUrl);
    url.pathname = `/${name}`;
    return { url: url.href, drop: () => run(`drop database ${name} with (force)`) };
  },
};
