import { sql } from "kysely";
import type { Tx } from "./open-store.ts";
import {
  type CommandRow,
  commandsTable,
  type IncarnationRow,
  incarnationsTable,
  type JobRow,
  jobsTable,
  type VmRow,
  vmsTable,
} from "./rows.ts";
import { later } from "./server-driver.ts";
import { columnList, textsIn, toJsonParameter } from "./table.ts";

export interface UnitScope {
  vmIds: readonly string[];
  /** Incarnations that events belong to, besides the VMs' current ones. */
  incarnations?: readonly string[];
  /** Finished commands that answers refer to. */
  commandIds?: readonly string[];
}

export interface LoadedRows {
  vms: VmRow[];
  commands: CommandRow[];
  jobs: JobRow[];
  incarnations: IncarnationRow[];
}

/**
 * Locks the VMs' rows, then reads what belongs to them. What is read after the lock is read in one statement: each one
 * costs a round trip while others wait for these rows, but none may begin before the lock is held, or it would see what
 * the holder before us has changed since as it was.
 */
export async function loadRows(
  tx: Tx,
  { vmIds, incarnations = [], commandIds = [] }: UnitScope,
): Promise<LoadedRows & { nowMs: number }> {
  const sorted = [...new Set(vmIds)].sort();
  const ids = textsIn(sorted);
  // One VM that exists needs no more than its row; whoever waits for it holds nothing yet.
  const one = sorted.length === 1 ? await lockVms(tx, sorted) : [];
  const vms = one.length > 0 ? one : await lockWithMissing(tx, sorted);
  const known = [...new Set([...vms.map((vm) => vm.incarnation), ...incarnations])];
  const rest = await sql<Omit<LoadedRows, "vms"> & { nowMs: number }>`select
    round(extract(epoch from clock_timestamp()) * 1000)::float8 as "nowMs",
    (select coalesce(jsonb_agg(to_jsonb(c) order by c."vmId", c.seq), '[]') from (
      select ${columnList(commandsTable)} from commands
      where vm_id in ${ids} and (state in ('pending', 'sent', 'acknowledged') or id in ${textsIn(commandIds)})) c) as commands,
    (select coalesce(jsonb_agg(to_jsonb(j) order by j."startedAtMs"), '[]') from (
      select ${columnList(jobsTable)} from jobs
      where vm_id in ${ids} and (completed_at is null or result = 'unknown')) j) as jobs,
    (select coalesce(jsonb_agg(to_jsonb(i)), '[]') from (
      select ${columnList(incarnationsTable)} from incarnations
      where vm_id in ${ids} and incarnation in ${textsIn(known)}) i) as incarnations`.execute(tx);
  const { nowMs = Date.now(), commands = [], jobs = [], incarnations: cursors = [] } = rest.rows[0] ?? {};
  return { nowMs, vms, commands, jobs, incarnations: cursors };
}

async function lockVms(tx: Tx, sorted: readonly string[]): Promise<VmRow[]> {
  const { rows } =
    await sql<VmRow>`select ${columnList(vmsTable)} from vms where vm_id in ${textsIn(sorted)} order by vm_id for update`.execute(
      tx,
    );
  return rows;
}

/**
 * Creating a VM takes no row lock, so two replicas could both find none; these locks order them. The ids are sorted,
 * like the rows, and the locks end with the transaction.
 */
async function lockWithMissing(tx: Tx, sorted: readonly string[]): Promise<VmRow[]> {
  await later(
    tx,
    sql`select pg_advisory_xact_lock(hashtextextended(id, 7)) from jsonb_array_elements_text(${toJsonParameter(sorted)}::jsonb) as id
    where not exists (select 1 from vms where vms.vm_id = id)`,
  );
  return lockVms(tx, sorted);
}
