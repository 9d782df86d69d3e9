import { type Log, pause } from "@mig/kit";
import { sql } from "kysely";
import type { Store } from "../store/open-store.ts";

/** Bundles of one VM; a newer one takes the place of the oldest. */
export const keptPerVm = 5;
/** For whom a bundle was collected has looked by then; and it is a megabyte of a database that is meant for less. */
export const keptForMs = 7 * 86_400_000;

export interface TidySettings {
  store: Store;
  log: Log;
  signal: AbortSignal;
  everyMs?: number;
}

/** Removes bundles that are too old, on every replica; removing one twice is nothing. */
export async function tidyDiagnostics({ store, log, signal, everyMs = 60_000 }: TidySettings): Promise<void> {
  while (!signal.aborted) {
    await pause(everyMs, signal);
    if (signal.aborted) return;
    try {
      const removed = await removeOld(store);
      if (removed > 0) log.info({ removed }, "old bundles of diagnostics were removed");
    } catch (error) {
      if (!signal.aborted) log.warn({ error }, "old bundles of diagnostics could not be removed");
    }
  }
}

async function removeOld(store: Store): Promise<number> {
  return store.transact(async (tx) => {
    const { numAffectedRows = 0n } = await sql`delete from diagnostics where command_id in (
      select command_id from diagnostics
      where received_at < clock_timestamp() - ${keptForMs} * interval '1 millisecond' limit 500)`.execute(tx);
    return Number(numAffectedRows);
  });
}
