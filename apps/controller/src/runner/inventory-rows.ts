import { MigError, type VmState } from "@mig/lifecycle";
import { sql } from "kysely";
import type { Store, Tx } from "../store/open-store.ts";
import { textsIn, toJsonParameter } from "../store/table.ts";
import type { Finding, KnownGrant, KnownVm, SeenBefore } from "./inventory-judge.ts";

/** Which list: the runners of one account, as one GitHub App sees them. */
export interface Place {
  app: string;
  /** "github.com/acme". */
  account: string;
}

export interface Turn extends Place {
  epoch: number;
}

/** One replica at a time. A holder that dies loses its turn by time; what it still writes then has an old epoch. */
export async function takeTurn(
  store: Store,
  { app, account }: Place,
  holder: string,
  heldMs: number,
): Promise<Turn | undefined> {
  const { rows } = await store.transact((tx) =>
    sql<{ epoch: number }>`insert into inventory_turns as t (app, account, holder, epoch, held_until, next_at)
      values (${app}, ${account}, ${holder}, 1, clock_timestamp() + ${heldMs} * interval '1 millisecond', clock_timestamp())
      on conflict (app, account) do update set holder = excluded.holder, epoch = t.epoch + 1, held_until = excluded.held_until
        where t.held_until <= clock_timestamp() and t.next_at <= clock_timestamp()
      returning epoch::float8 as epoch`.execute(tx),
  );
  const [row] = rows;
  return row === undefined ? undefined : { app, account, epoch: row.epoch };
}

/** Rejects when somebody else has it: then nothing may be done in its name any more. */
export async function keepTurn(store: Store, turn: Turn, heldMs: number): Promise<void> {
  if (!(await store.transact((tx) => hold(tx, turn, heldMs)))) throw lostTurn();
}

const lostTurn = (): MigError =>
  new MigError("superseded", "another replica has taken this turn over; it goes on there");

async function hold(tx: Tx, { app, account, epoch }: Turn, heldMs: number): Promise<boolean> {
  const { rows } =
    await sql`update inventory_turns set held_until = clock_timestamp() + ${heldMs} * interval '1 millisecond'
      where app = ${app} and account = ${account} and epoch = ${epoch} returning 1`.execute(tx);
  return rows.length > 0;
}

export async function endTurn(
  store: Store,
  { app, account, epoch }: Turn,
  { nextInMs, problem }: { nextInMs: number; problem: string | null },
): Promise<void> {
  await store.transact((tx) =>
    sql`update inventory_turns set held_until = clock_timestamp(), problem = ${problem},
      next_at = clock_timestamp() + ${nextInMs} * interval '1 millisecond',
      looked_at = case when ${problem}::text is null then clock_timestamp() else looked_at end
      where app = ${app} and account = ${account} and epoch = ${epoch}`.execute(tx),
  );
}

export interface Known {
  nowMs: number;
  grants: KnownGrant[];
  vms: KnownVm[];
  before: SeenBefore[];
}

/** Grants first: a grant is made for the boot that its VM is in, so a VM read later is never behind its grants. */
export async function readKnown(
  store: Store,
  { app, account }: Place,
  names: readonly string[],
  stems: readonly string[],
): Promise<Known> {
  return store.transact(async (tx) => {
    const grants = await sql<KnownGrant & { runnerUrl: string }>`select id, vm_id as "vmId", incarnation,
      pool_id as "poolId", org_id as "orgId", state, runner_name as "runnerName", runner_id::float8 as "runnerId",
      ${ms("wanted_at")} as "wantedAtMs", ${ms("settled_at")} as "settledAtMs",
      coalesce(wish ->> 'runnerUrl', '') as "runnerUrl" from grants
      where id in (
        select id from grants where left(vm_id, 48) || '-' || right(id, 8) in ${textsIn(stems)}
        union select l.id from vms v join grants l on l.vm_id = v.vm_id and l.incarnation = v.incarnation
          where v.state not in ('terminated', 'lost'))`.execute(tx);
    const own = grants.rows.filter(({ runnerUrl }) => placeOf(runnerUrl) === account);
    const vms = await sql<Omit<KnownVm, "state"> & { state: VmState }>`select vm_id as "vmId", incarnation,
      pool_id as "poolId", org_id as "orgId", state, reachability = 'online' as "isOnline", runner_name as "runnerName"
      from vms where vm_id in ${textsIn(own.map(({ vmId }) => vmId))}
        or (state not in ('terminated', 'lost') and runner_name in ${textsIn(names)})`.execute(tx);
    const before = await sql<SeenBefore>`select entry, verdict, ${ms("verdict_at")} as "verdictAtMs",
      ${ms("offline_at")} as "offlineAtMs" from runner_inventory
      where app = ${app} and account = ${account} and removed_at is null`.execute(tx);
    return {
      nowMs: await clockOf(tx),
      grants: own,
      vms: vms.rows,
      before: before.rows,
    };
  });
}

export const readClock = (store: Store): Promise<number> => store.transact(clockOf);

async function clockOf(tx: Tx): Promise<number> {
  const { rows } = await sql<{ at: number }>`select ${ms("clock_timestamp()")} as at`.execute(tx);
  return rows[0]?.at ?? Date.now();
}

const keptMs = 86_400_000;

/**
 * Writes what was found; rejects when the turn is lost. What was not seen is forgotten, unless the list was not whole; what
 * was removed is shown for a day.
 */
export async function writeFindings(
  store: Store,
  turn: Turn,
  findings: readonly Finding[],
  { isComplete, heldMs }: { isComplete: boolean; heldMs: number },
): Promise<void> {
  const { app, account, epoch } = turn;
  await store.transact(async (tx) => {
    if (!(await hold(tx, turn, heldMs))) throw lostTurn();
    await sql`insert into runner_inventory as i (app, account, entry, epoch, runner_id, runner_name, vm_id, pool_id, org_id,
        grant_id, verdict, reason, status, busy, offline_at, verdict_at, seen_at)
      select ${app}, ${account}, r."entry", ${epoch}, r."runnerId", r."runnerName", r."vmId", r."poolId", r."orgId",
        r."grantId", r."verdict", r."reason", case when r."isOnline" then 'online' else 'offline' end, r."isBusy",
        to_timestamp(r."offlineAtMs" / 1000.0), to_timestamp(r."verdictAtMs" / 1000.0), clock_timestamp()
      from jsonb_to_recordset(${toJsonParameter(findings)}::jsonb) as r("entry" text, "runnerId" bigint, "runnerName" text,
        "vmId" text, "poolId" text, "orgId" text, "grantId" text, "verdict" text, "reason" text, "isOnline" boolean,
        "isBusy" boolean, "offlineAtMs" float8, "verdictAtMs" float8)
      on conflict (app, account, entry) do update set epoch = excluded.epoch, runner_name = excluded.runner_name,
        vm_id = excluded.vm_id, pool_id = excluded.pool_id, org_id = excluded.org_id, grant_id = excluded.grant_id,
        verdict = excluded.verdict, reason = excluded.reason, status = excluded.status, busy = excluded.busy,
        offline_at = excluded.offline_at, verdict_at = excluded.verdict_at, seen_at = excluded.seen_at, removed_at = null,
        drained_at = case when i.verdict_at = excluded.verdict_at then i.drained_at end`.execute(tx);
    if (isComplete)
      await sql`delete from runner_inventory where app = ${app} and account = ${account} and epoch < ${epoch}
        and (removed_at is null or removed_at < clock_timestamp() - ${keptMs} * interval '1 millisecond')`.execute(
        tx,
      );
  });
}

/** `removed_at` of a runner, or `drained_at` of a VM. */
export async function markDone(
  store: Store,
  { app, account }: Place,
  entry: string,
  what: "removed_at" | "drained_at",
): Promise<void> {
  await store.transact((tx) =>
    sql`update runner_inventory set ${sql.raw(what)} = clock_timestamp()
      where app = ${app} and account = ${account} and entry = ${entry}`.execute(tx),
  );
}

export async function isDrained(store: Store, { app, account }: Place, entry: string): Promise<boolean> {
  const { rows } = await store.transact((tx) =>
    sql`select 1 from runner_inventory where app = ${app} and account = ${account} and entry = ${entry}
      and drained_at is not null`.execute(tx),
  );
  return rows.length > 0;
}

/** Where the grants of this App went in the last days, whatever pools there are now. */
export async function readGrantUrls(store: Store, app: string): Promise<string[]> {
  const { rows } = await store.transact((tx) =>
    sql<{ url: string }>`select distinct wish ->> 'runnerUrl' as url from grants
      where app = ${app} and wanted_at > clock_timestamp() - interval '15 days' limit 1000`.execute(tx),
  );
  return rows.flatMap(({ url }) => (url === null ? [] : [url]));
}

/** "https://GitHub.com/Acme/" → "github.com/acme": GitHub's names have no case. */
export function placeOf(runnerUrl: string): string {
  if (!URL.canParse(runnerUrl)) return "";
  const { host, pathname } = new URL(runnerUrl);
  return `${host === "www.github.com" ? "github.com" : host}${pathname.replace(/\/+$/, "")}`.toLowerCase();
}

const ms = (column: string) => sql.raw(`round(extract(epoch from ${column}) * 1000)::float8`);
