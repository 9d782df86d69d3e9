import { sql } from "kysely";
import { textsIn } from "../store/table.ts";
import type { Parts } from "./parts.ts";

/** Wakes the sessions that the store tells of, wherever the command was queued. Answers how to stop. */
export function wakeSessions(parts: Parts): () => void {
  const { store, registry, log, signal } = parts;
  return store.wakes.hear((vmIds) => {
    if (vmIds !== "any") for (const vmId of vmIds) registry.wake(vmId);
    else
      wakeWaiting(parts).catch((error: unknown) => {
        if (!signal.aborted) log.debug({ error }, "the table was not looked at; the watch will");
      });
  });
}

/** Wakes every session of this replica for which the table has something. */
export async function wakeWaiting({ store, registry }: Parts): Promise<void> {
  if (registry.size === 0) return;
  const waiting = await store.transact((tx) =>
    sql<{
      vmId: string;
    }>`select distinct vm_id as "vmId" from commands where state = 'pending' and not_before <= now()
      and vm_id in ${textsIn(registry.vmIds())}`.execute(tx),
  );
  for (const { vmId } of waiting.rows) registry.wake(vmId);
}
