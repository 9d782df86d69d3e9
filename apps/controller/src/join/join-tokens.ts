import { BlockList, isIP } from "node:net";
import { MigError } from "@mig/lifecycle";
import { sql } from "kysely";
import { recordAct } from "../audit/audit.ts";
import type { Act } from "../audit/chain.ts";
import { mintBearer, parseBearer } from "../identity/bearer.ts";
import type { Store, Tx } from "../store/open-store.ts";
import { columnList, insertRows, type Table } from "../store/table.ts";

/** Enrolment tokens: `mgj_…`, shown once, good for a pool (and one VM of it, if it says so), for a time, for a number of VMs. */
export interface JoinTokenRow {
  id: string;
  hash: string;
  poolId: string;
  orgId: string;
  vmId: string | null;
  cidr: string | null;
  usesMax: number;
  uses: number;
  createdBy: string;
  createdAtMs: number;
  expiresAtMs: number;
  revokedAtMs: number | null;
}

const table: Table<JoinTokenRow> = {
  name: "join_tokens",
  columns: {
    id: "text",
    hash: "text",
    poolId: "text",
    orgId: "text",
    vmId: "text",
    cidr: "text",
    usesMax: "int",
    uses: "int",
    createdBy: "text",
    createdAtMs: "time",
    expiresAtMs: "time",
    revokedAtMs: "time",
  },
};

export interface NewJoinToken {
  readonly poolId: string;
  readonly orgId: string;
  readonly vmId?: string;
  readonly cidr?: string;
  readonly usesMax: number;
  readonly expiresInMs: number;
}

type By = Omit<Act, "object" | "result" | "details" | "orgId">;

export async function createJoinToken(
  store: Store,
  token: NewJoinToken,
  act: By,
): Promise<{ row: JoinTokenRow; text: string }> {
  if (token.cidr !== undefined) readCidr(token.cidr);
  return store.transact(async (tx) => {
    const { rows } = await sql<{ nowMs: number }>`select
      round(extract(epoch from clock_timestamp()) * 1000)::float8 as "nowMs"`.execute(tx);
    const nowMs = rows[0]?.nowMs ?? Date.now();
    const { id, hash, text } = mintBearer("join");
    const row: JoinTokenRow = {
      id,
      hash,
      poolId: token.poolId,
      orgId: token.orgId,
      vmId: token.vmId ?? null,
      cidr: token.cidr ?? null,
      usesMax: token.usesMax,
      uses: 0,
      createdBy: act.actor,
      createdAtMs: nowMs,
      expiresAtMs: nowMs + token.expiresInMs,
      revokedAtMs: null,
    };
    await insertRows(table, [row]).execute(tx);
    // What is over for a week tells nobody anything: the audit log has it.
    await sql`delete from join_tokens where expires_at < clock_timestamp() - interval '7 days'`.execute(tx);
    const { poolId, vmId, usesMax } = row;
    await recordAct(tx, {
      ...act,
      orgId: token.orgId,
      object: `join-token:${id}`,
      result: "done",
      details: {
        pool_id: poolId,
        vm_id: vmId,
        uses_max: usesMax,
        expires_at: new Date(row.expiresAtMs).toISOString(),
      },
    });
    return { row, text };
  });
}

export async function listJoinTokens(
  store: Store,
  orgIds: readonly string[] | undefined,
): Promise<JoinTokenRow[]> {
  return store.transact(async (tx) => {
    const { rows } = await sql<JoinTokenRow>`select ${columnList(table)} from join_tokens
      where ${orgIds === undefined} or org_id in (select jsonb_array_elements_text(${JSON.stringify(orgIds ?? [])}::jsonb))
      order by created_at desc, id limit 1000`.execute(tx);
    return rows;
  });
}

export async function findJoinToken(store: Store, id: string): Promise<JoinTokenRow | undefined> {
  return store.transact(async (tx) => {
    const { rows } =
      await sql<JoinTokenRow>`select ${columnList(table)} from join_tokens where id = ${id}`.execute(tx);
    return rows[0];
  });
}

export async function revokeJoinToken(store: Store, row: JoinTokenRow, act: By): Promise<void> {
  await store.transact(async (tx) => {
    await sql`update join_tokens set revoked_at = coalesce(revoked_at, clock_timestamp()) where id = ${row.id}`.execute(
      tx,
    );
    await recordAct(tx, { ...act, orgId: row.orgId, object: `join-token:${row.id}`, result: "done" });
  });
}

/** What the token is for, without using it up. Throws `unauthenticated`; says no more about one that is not good. */
export async function readJoinToken(
  tx: Tx,
  text: string,
  address: string | undefined,
): Promise<JoinTokenRow> {
  const bearer = parseBearer("join", text);
  const { rows } =
    bearer === undefined
      ? { rows: [] }
      : await sql<JoinTokenRow>`select ${columnList(table)} from join_tokens
          where id = ${bearer.id} and hash = ${bearer.hash}`.execute(tx);
  const [row] = rows;
  if (row === undefined) throw new MigError("unauthenticated", "the enrolment token is not known here");
  if (row.cidr !== null && (address === undefined || !isInside(address, row.cidr)))
    throw new MigError("forbidden", `the enrolment token is for machines in ${row.cidr}`);
  return row;
}

/** One use of it, or none: the row decides, however many ask at once. */
export async function redeem(tx: Tx, { id }: JoinTokenRow): Promise<void> {
  const { rows } = await sql`update join_tokens set uses = uses + 1 where id = ${id} and uses < uses_max
    and revoked_at is null and expires_at > clock_timestamp() returning id`.execute(tx);
  if (rows.length === 0)
    throw new MigError("forbidden", "the enrolment token is used up, revoked or expired; create another one");
}

function readCidr(cidr: string): BlockList {
  const [network = "", bits = ""] = cidr.split("/");
  const family = isIP(network);
  const list = new BlockList();
  const prefix = /^\d{1,3}$/.test(bits) ? Number(bits) : Number.NaN;
  if (family === 0 || !(prefix <= (family === 4 ? 32 : 128)))
    throw new MigError("invalid_request", 'cidr is a network, as in "10.0.0.0/8" or "2001:db8::/32"');
  list.addSubnet(network, prefix, family === 4 ? "ipv4" : "ipv6");
  return list;
}

function isInside(address: string, cidr: string): boolean {
  const plain = address.startsWith("::ffff:") && isIP(address.slice(7)) === 4 ? address.slice(7) : address;
  const family = isIP(plain);
  return family !== 0 && readCidr(cidr).check(plain, family === 4 ? "ipv4" : "ipv6");
}
