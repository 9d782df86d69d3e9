import { createHash, randomBytes } from "node:crypto";
import pg from "pg";

/** The PostgreSQL server that tests make databases of their own on. `.ci/run` demands that it answers. */
const serverUrl = process.env["MIG_TEST_DATABASE_URL"] ?? "postgres://postgres@127.0.0.1:5432/postgres";

export function serverUrlOf(database: string): string {
  const url = new URL(serverUrl);
  url.pathname = `/${database}`;
  return url.href;
}

/** A new database, empty or a copy. */
export async function newServerDatabase(template?: string): Promise<{ name: string; url: string }> {
  const name = `mig_test_${randomBytes(6).toString("hex")}`;
  await onServer(`create database ${name}${template === undefined ? "" : ` template ${template}`}`);
  return { name, url: serverUrlOf(name) };
}

/** tests/lib/run-dir.ts removes it with the run. */
export function templateName(runDir: string): string {
  return `mig_template_${createHash("sha256").update(runDir).digest("hex").slice(0, 12)}`;
}

/** One statement on a connection of its own, and what `then` asks on the same one: it answers how many rows there are. */
export async function onServer(
  statement: string,
  then: (ask: (statement: string) => Promise<number>) => Promise<void> = async () => {},
): Promise<void> {
  const client = new pg.Client({ connectionString: serverUrl });
  await client.connect();
  try {
    await client.query(statement);
    await then(async (next) => (await client.query(next)).rowCount ?? 0);
  } finally {
    await client.end();
  }
}

let answer: Promise<boolean> | undefined;

export function answersHere(): Promise<boolean> {
  answer ??= tryServer();
  return answer;
}

async function tryServer(): Promise<boolean> {
  const client = new pg.Client({ connectionString: serverUrl, connectionTimeoutMillis: 1_000 });
  try {
    await client.connect();
    await client.end();
    return true;
  } catch {
    return false;
  }
}
