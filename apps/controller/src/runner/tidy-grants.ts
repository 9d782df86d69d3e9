import { type Log, pause, uuid7 } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { readText } from "@mig/protocol";
import { sql } from "kysely";
import type { Registrar } from "../github/registrar.ts";
import { type GrantRow, grantsTable } from "../store/grant-rows.ts";
import type { Store, Tx } from "../store/open-store.ts";
import { type EventRow, eventsTable } from "../store/rows.ts";
import { columnList, insertRows } from "../store/table.ts";
import { keepMs } from "./grant-line.ts";

/**
 * What time does to grants, on every replica, each change once: a secret that nobody may ask for again is erased; a
 * grant that led to no runner is told of; the registration of a grant that is void is removed from GitHub.
 */
export interface TidySettings {
  app: string;
  store: Store;
  registrar: Registrar;
  everyMs?: number;
  keptMs?: number;
  log: Log;
  signal: AbortSignal;
}

const batchMax = 50;
/** A busy flag clears late (runner-contract §8.3), and a registration without a runner ends by itself in a day. */
const removeAgainMs = 5 * 60_000;

export async function tidyGrants(settings: TidySettings): Promise<void> {
  const { app, log, signal, everyMs = 15_000 } = settings;
  while (!signal.aborted) {
    try {
      await tellOfUnused(settings);
      await removeLeftOver(settings);
    } catch (error) {
      if (!signal.aborted) log.warn({ error, app }, "grants could not be looked after");
    }
    await pause(everyMs, signal);
  }
}

async function tellOfUnused({ app, store, log, keptMs = keepMs }: TidySettings): Promise<void> {
  const unused = await store.transact(async (tx) => {
    const { rows } = await sql<GrantRow>`update grants set sealed = null, alerted_at = clock_timestamp()
      where id in (select id from grants where app = ${app} and state = 'made' and alerted_at is null
        and made_at < clock_timestamp() - ${keptMs} * interval '1 millisecond' limit ${batchMax} for update skip locked)
      returning ${columnList(grantsTable)}`.execute(tx);
    await recordUnused(tx, rows);
    return rows;
  });
  for (const { vmId, poolId, orgId, runnerName } of unused)
    log.warn(
      { app, vm_id: vmId, pool_id: poolId, org_id: orgId, runner_name: runnerName },
      "a grant has led to no runner; see what the VM does, and who may have taken it",
    );
}

/** Beside the VM's own events, where an operator looks for what happened to it. */
async function recordUnused(tx: Tx, rows: readonly GrantRow[]): Promise<void> {
  if (rows.length === 0) return;
  const nowMs = Date.now();
  const events = rows.map(
    ({ vmId, poolId, orgId, incarnation, runnerName, requestId }): EventRow => ({
      vmId,
      poolId,
      orgId,
      incarnation,
      seq: null,
      eventId: uuid7(nowMs),
      type: "grant_unused",
      occurredAtMs: nowMs,
      receivedAtMs: nowMs,
      payload: { runner_name: runnerName, request_id: requestId },
      refused: null,
    }),
  );
  await insertRows(eventsTable, events).execute(tx);
}

async function removeLeftOver({ app, store, registrar, log, signal }: TidySettings): Promise<void> {
  const { rows } = await store.transact((tx) =>
    sql<GrantRow>`update grants set not_before = clock_timestamp() + ${removeAgainMs} * interval '1 millisecond'
      where id in (select id from grants where app = ${app} and state in ('void', 'failed') and runner_name is not null
        and removed_at is null and not_before <= clock_timestamp() order by not_before limit ${batchMax} for update skip locked)
      returning ${columnList(grantsTable)}`.execute(tx),
  );
  for (const { id, wish, vmId, runnerName, runnerId } of rows) {
    if (signal.aborted || runnerName === null) return;
    // Of a registration token nobody knows what became; the inventory sees it.
    const verdict =
      readText(wish, "registration") === "token"
        ? "removed"
        : await remove(registrar, readText(wish, "runnerUrl") ?? "", runnerName, runnerId, log);
    if (verdict === "later") return;
    if (verdict === "removed")
      await store.transact((tx) =>
        sql`update grants set removed_at = clock_timestamp() where id = ${id}`.execute(tx),
      );
    log.info(
      { app, vm_id: vmId, runner_name: runnerName, verdict },
      "a registration that nobody needs was looked after",
    );
  }
}

async function remove(
  registrar: Registrar,
  runnerUrl: string,
  runnerName: string,
  runnerId: number | null,
  log: Log,
): Promise<"removed" | "busy" | "later"> {
  try {
    return await registrar.remove({ runnerUrl, runnerName, ...(runnerId === null ? {} : { runnerId }) });
  } catch (error) {
    if (error instanceof MigError && error.code === "github_rate_limited") return "later";
    log.warn({ error, runner_name: runnerName }, "a registration that nobody needs could not be removed");
    return "busy";
  }
}
