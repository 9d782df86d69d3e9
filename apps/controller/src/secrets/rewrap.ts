import type { Log } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { type RawBuilder, sql } from "kysely";
import type { Store } from "../store/open-store.ts";
import { toJsonParameter } from "../store/table.ts";
import { keyIdOf } from "./envelope.ts";
import type { Sealer } from "./sealer.ts";

/** A table with envelopes in its column `sealed`. */
export interface SealedTable {
  readonly name: string;
  /** The columns that name a row. */
  readonly row: readonly string[];
  /** What its envelopes are bound to, from those columns as texts. */
  about(row: readonly string[]): string;
}

export interface RewrapReport {
  rewrapped: number;
  /** Envelopes under other keys than the newest, by key: none of these keys may be removed. */
  left: ReadonlyMap<string, number>;
  /** Rows that do not open, as "table: row". The first hundred. */
  broken: readonly string[];
}

const batchRows = 100;

/**
 * Brings every envelope under the newest master key, while everybody reads and writes: a batch is read without a lock
 * and written only where the row still has what was read. So it may be stopped anywhere, run twice, and run on all
 * replicas at once.
 */
export async function rewrapAll(
  store: Store,
  sealer: Sealer,
  tables: readonly SealedTable[],
  log: Log,
  signal: AbortSignal,
): Promise<RewrapReport> {
  let rewrapped = 0;
  const broken: string[] = [];
  for (const table of tables) {
    let after: readonly string[] | undefined;
    while (!signal.aborted) {
      const batch = await readBatch(store, table, sealer.keyId(), after);
      if (batch.length === 0) break;
      after = batch.at(-1)?.row;
      const changes = batch.flatMap(({ row, old }) => {
        try {
          const next = sealer.rewrap(old, table.about(row));
          return next === undefined ? [] : [{ key: keyIdOf(old), old, next }];
        } catch (error) {
          if (!(error instanceof MigError)) throw error;
          if (broken.length < 100) broken.push(`${table.name}: ${row.join(" ")}`);
          log.warn(
            { table: table.name, row, error },
            "an envelope could not be brought under the new master key",
          );
          return [];
        }
      });
      rewrapped += await writeBatch(store, table, changes);
    }
  }
  const used = await countKeys(store, tables);
  used.delete(sealer.keyId());
  return { rewrapped, left: used, broken };
}

/** How many envelopes each master key holds. */
export async function countKeys(store: Store, tables: readonly SealedTable[]): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  for (const { name } of tables) {
    const { rows } = await store.transact((tx) =>
      sql<{ key: string; count: number }>`select ${keyOf} as key, count(*)::float8 as count
        from ${sql.raw(name)} where sealed is not null group by 1`.execute(tx),
    );
    for (const { key, count } of rows) counts.set(key, (counts.get(key) ?? 0) + count);
  }
  return counts;
}

/** The expression that migrations/000002_secrets.sql has an index for. */
const keyOf = sql.raw("split_part(sealed, '.', 2)");

async function readBatch(
  store: Store,
  table: SealedTable,
  newest: string,
  after: readonly string[] | undefined,
): Promise<{ row: string[]; old: string }[]> {
  const columns = sql.raw(table.row.map((column) => `${column}::text`).join(", "));
  const beyond: RawBuilder<unknown> =
    after === undefined
      ? sql`true`
      : sql`(${columns}) > (${sql.join(after.map((text) => sql`${text}::text`))})`;
  const { rows } = await store.transact((tx) =>
    sql<{ row: string[]; old: string }>`select jsonb_build_array(${columns}) as row, sealed as old
      from ${sql.raw(table.name)} where sealed is not null and ${keyOf} <> ${newest} and ${beyond}
      order by ${columns} limit ${batchRows}`.execute(tx),
  );
  return rows;
}

async function writeBatch(
  store: Store,
  { name }: SealedTable,
  changes: readonly { key: string; old: string; next: string }[],
): Promise<number> {
  if (changes.length === 0) return 0;
  const { numAffectedRows = 0n } = await store.transact((tx) =>
    sql`update ${sql.raw(name)} t set sealed = r.next
      from jsonb_to_recordset(${toJsonParameter(changes)}::jsonb) as r(key text, old text, next text)
      where split_part(t.sealed, '.', 2) = r.key and t.sealed = r.old`.execute(tx),
  );
  return Number(numAffectedRows);
}
