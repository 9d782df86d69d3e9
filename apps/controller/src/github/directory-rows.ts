import type { JsonObject } from "@mig/protocol";
import { sql } from "kysely";
import type { Tx } from "../store/open-store.ts";
import { columnList, insertRows, type Table, updateRows } from "../store/table.ts";

/** What the API calls them, and their tables. */
export const kinds = ["github-apps", "orgs", "pools"] as const;
export type Kind = (typeof kinds)[number];

/** For messages. */
export const kindNames: Record<Kind, string> = {
  "github-apps": "GitHub App",
  orgs: "organization",
  pools: "pool",
};

export interface DirectoryRow {
  id: string;
  /** As it was sent. */
  spec: JsonObject;
  createdAtMs: number;
  updatedAtMs: number;
}

const table = (name: string): Table<DirectoryRow> => ({
  name,
  columns: { id: "text", spec: "json", createdAtMs: "time", updatedAtMs: "time" },
});
const tables: Record<Kind, Table<DirectoryRow>> = {
  "github-apps": table("github_apps"),
  orgs: table("orgs"),
  pools: table("pools"),
};

export type Rows = Record<Kind, DirectoryRow[]>;

export async function readVersion(tx: Tx): Promise<number> {
  const { rows } = await sql<{
    version: number;
  }>`select version::float8 as version from directory_version`.execute(tx);
  return rows[0]?.version ?? 0;
}

/** Holds the directory until the transaction ends: changes are checked against all of it, so one comes after the other. */
export async function lockDirectory(tx: Tx): Promise<number> {
  const { rows } = await sql<{ version: number; nowMs: number }>`select version::float8 as version,
    round(extract(epoch from clock_timestamp()) * 1000)::float8 as "nowMs" from directory_version for update`.execute(
    tx,
  );
  return rows[0]?.nowMs ?? Date.now();
}

export async function countVersionUp(tx: Tx): Promise<void> {
  await sql`update directory_version set version = version + 1`.execute(tx);
}

export async function readRows(tx: Tx): Promise<Rows> {
  const read = async (kind: Kind): Promise<DirectoryRow[]> => {
    const { rows } =
      await sql<DirectoryRow>`select ${columnList(tables[kind])} from ${sql.raw(tables[kind].name)} order by id`.execute(
        tx,
      );
    return rows;
  };
  return { "github-apps": await read("github-apps"), orgs: await read("orgs"), pools: await read("pools") };
}

export async function insertRow(tx: Tx, kind: Kind, row: DirectoryRow): Promise<void> {
  await insertRows(tables[kind], [row]).execute(tx);
}

export async function updateRow(tx: Tx, kind: Kind, row: DirectoryRow): Promise<void> {
  await updateRows(tables[kind], "id", [row]).execute(tx);
}

export async function deleteRow(tx: Tx, kind: Kind, id: string): Promise<void> {
  await sql`delete from ${sql.raw(tables[kind].name)} where id = ${id}`.execute(tx);
}

/** VMs of a pool that have not ended, and what an App has in the line. */
export async function countLiveVms(tx: Tx, poolId: string): Promise<number> {
  const { rows } = await sql<{ count: number }>`select count(*)::float8 as count from vms
    where pool_id = ${poolId} and state not in ('terminated', 'lost')`.execute(tx);
  return rows[0]?.count ?? 0;
}

export async function countOpenGrants(tx: Tx, app: string): Promise<number> {
  const { rows } = await sql<{ count: number }>`select count(*)::float8 as count from grants
    where app = ${app} and state in ('wanted', 'making')`.execute(tx);
  return rows[0]?.count ?? 0;
}
