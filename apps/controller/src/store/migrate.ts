import { readdir, readFile } from "node:fs/promises";
import { type Kysely, sql } from "kysely";

/**
 * Applies migrations/NNNNNN_name.sql in order, each once, each in its own transaction. Several replicas may start
 * together: one holds the lock, the others wait and find nothing left to do. Forward only.
 */
const migrationsUrl = new URL("../../migrations/", import.meta.url);
/** Any constant; it names the lock among all users of this database. "MIG1" in ASCII. */
const lockKey = 0x4d_49_47_31;

export async function migrate<T>(db: Kysely<T>): Promise<void> {
  const files = (await readdir(migrationsUrl)).filter((name) => /^\d{6}_.*\.sql$/.test(name)).sort();
  await db.transaction().execute(async (tx) => {
    await sql`select pg_advisory_xact_lock(${lockKey})`.execute(tx);
    await sql`create table if not exists schema_migrations (
      version integer primary key, name text not null, applied_at timestamptz not null default now())`.execute(
      tx,
    );
  });
  for (const name of files) {
    const version = Number(name.slice(0, 6));
    const text = await readFile(new URL(name, migrationsUrl), "utf8");
    await db.transaction().execute(async (tx) => {
      await sql`select pg_advisory_xact_lock(${lockKey})`.execute(tx);
      const applied = await sql`select 1 from schema_migrations where version = ${version}`.execute(tx);
      if (applied.rows.length > 0) return;
      for (const statement of statementsOf(text)) await sql.raw(statement).execute(tx);
      await sql`insert into schema_migrations (version, name) values (${version}, ${name})`.execute(tx);
    });
  }
}

/** Statements end with a semicolon at the end of a line; migrations hold no functions. */
function statementsOf(text: string): string[] {
  return text
    .replaceAll(/^--.*$/gm, "")
    .split(/;\s*(?:\n|$)/)
    .map((statement) => statement.trim())
    .filter((statement) => statement !== "");
}
