import { type Log, pause } from "@mig/kit";
import { sql } from "kysely";
import type { Store } from "../store/open-store.ts";

/** What is kept: for so long, and about so many rows. A row is one change, or the events of one commit. */
export interface FeedKeep {
  readonly ms: number;
  readonly rows: number;
}

const everyMs = 30_000;
const rowsAtOnce = 5_000;
/** Any constant; one replica at a time forgets. "FEED" in ASCII. */
const lockKey = 0x46_45_45_44;

/** Any replica may; there is no leader. */
export async function keepForgetting(
  store: Store,
  keep: FeedKeep,
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    // Spread, so that replicas that started together do not all come at once.
    await pause(everyMs * (0.5 + Math.random()), signal);
    try {
      while (!signal.aborted && (await forgetSome(store, keep)) === rowsAtOnce);
    } catch (error) {
      if (!signal.aborted)
        log.warn({ error }, "old rows of the feed could not be removed; tried again later");
    }
  }
}

/** Removes the oldest that are too old or too many. Answers how many; 0 also when another replica is at it. */
export async function forgetSome(store: Store, keep: FeedKeep): Promise<number> {
  return store.transact(async (tx) => {
    const { rows } = await sql<{ has: boolean }>`select pg_try_advisory_xact_lock(${lockKey}) as has`.execute(
      tx,
    );
    if (rows[0]?.has !== true) return 0;
    const removed = await sql<{ id: number }>`delete from feed where id <= (
        select max(id) from (select id, at from feed order by id limit ${rowsAtOnce}) oldest
        where at < clock_timestamp() - ${keep.ms} * interval '1 millisecond'
          or id <= (select last_value from feed_id_seq) - ${keep.rows}) returning id::float8 as id`.execute(
      tx,
    );
    const last = removed.rows.reduce((max, { id }) => Math.max(max, id), 0);
    // In the same transaction: whoever sees that rows are missing sees up to where.
    if (last > 0) await sql`update feed_gone set id = greatest(id, ${last})`.execute(tx);
    return removed.rows.length;
  });
}
