import { type RawBuilder, sql } from "kysely";
import type { Store, Tx } from "../store/open-store.ts";
import { later } from "../store/server-driver.ts";
import { type Act, firstHash, type Head, type Link, restOf } from "./chain.ts";

/**
 * Writes acts into the transaction that does them: what cannot be audited is not done. The head of the chain is held
 * from here to the commit, so acts of one organization are written one after the other; the database itself writes the
 * number, the time and the hash, so that nobody has to ask for the head first.
 */
export async function recordAct(tx: Tx, act: Act): Promise<void> {
  const rest = restOf(act);
  const entry = (seq: RawBuilder<unknown>): RawBuilder<unknown> =>
    sql`'{"seq":' || ${seq} || ',"at":"' || ${isoNow} || ${rest}::text`;
  const hash = (before: RawBuilder<unknown>, seq: RawBuilder<unknown>): RawBuilder<unknown> =>
    sql`encode(sha256(convert_to(${before} || E'\\n' || ${entry(seq)}, 'UTF8')), 'hex')`;
  await later(
    tx,
    sql`with head as (
        insert into audit_heads (org_id, seq, hash) values (${act.orgId}, 1, ${hash(sql`${firstHash}::text`, sql`1`)})
        on conflict (org_id) do update set seq = audit_heads.seq + 1,
          hash = ${hash(sql`audit_heads.hash`, sql`(audit_heads.seq + 1)`)}
        returning seq, hash)
      insert into audit (org_id, seq, at, actor, action, object, result, entry, hash)
      select ${act.orgId}, seq, date_trunc('milliseconds', statement_timestamp()), ${act.actor}, ${act.action},
        ${act.object}, ${act.result}, ${entry(sql`seq`)}, hash from head`,
  );
}

/** As JavaScript writes times. The clock stands still within a statement. */
const isoNow = sql`to_char(statement_timestamp() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`;

export interface AuditFilter {
  /** Undefined: all organizations. */
  readonly orgIds?: readonly string[];
  readonly actor?: string;
  readonly action?: string;
  readonly object?: string;
  readonly sinceMs?: number;
  readonly untilMs?: number;
  readonly limit: number;
  /** Of the page before. */
  readonly cursor?: { readonly atMs: number; readonly orgId: string; readonly seq: number };
}

export interface AuditEntry extends Link {
  readonly atMs: number;
}

/** Newest first. */
export async function listAudit(store: Store, filter: AuditFilter): Promise<AuditEntry[]> {
  const { cursor } = filter;
  return store.transact(async (tx) => {
    const { rows } = await sql<AuditEntry>`select org_id as "orgId", seq::float8 as seq, entry, hash,
        round(extract(epoch from at) * 1000)::float8 as "atMs" from audit
      where (${filter.orgIds === undefined} or org_id in (select jsonb_array_elements_text(${JSON.stringify(filter.orgIds ?? [])}::jsonb)))
        and (${filter.actor ?? null}::text is null or actor = ${filter.actor ?? null})
        and (${filter.action ?? null}::text is null or action = ${filter.action ?? null})
        and (${filter.object ?? null}::text is null or object = ${filter.object ?? null})
        and (${filter.sinceMs ?? null}::float8 is null or at >= to_timestamp(${filter.sinceMs ?? 0}::float8 / 1000.0))
        and (${filter.untilMs ?? null}::float8 is null or at < to_timestamp(${filter.untilMs ?? 0}::float8 / 1000.0))
        and (${cursor?.atMs ?? null}::float8 is null
          or (round(extract(epoch from at) * 1000)::float8, org_id, seq)
            < (${cursor?.atMs ?? 0}::float8, ${cursor?.orgId ?? ""}::text, ${cursor?.seq ?? 0}::bigint))
      order by round(extract(epoch from at) * 1000)::float8 desc, org_id desc, seq desc limit ${filter.limit}`.execute(
      tx,
    );
    return rows;
  });
}

/** Where the chain of an organization ends now. */
export async function readHead(store: Store, orgId: string): Promise<Head> {
  return store.transact(async (tx) => {
    const { rows } = await sql<Head>`select seq::float8 as seq, hash
      from audit_heads where org_id = ${orgId}`.execute(tx);
    return rows[0] ?? { seq: 0, hash: firstHash };
  });
}

/** A page of one chain: after one number, and up to another, in order. */
export async function readLinks(
  store: Store,
  orgId: string,
  { after, upTo, limit }: { after: number; upTo: number; limit: number },
): Promise<Link[]> {
  return store.transact(async (tx) => {
    const { rows } = await sql<Link>`select org_id as "orgId", seq::float8 as seq, entry, hash from audit
      where org_id = ${orgId} and seq > ${after} and seq <= ${upTo} order by seq limit ${limit}`.execute(tx);
    return rows;
  });
}
