import { MigError } from "@mig/lifecycle";
import { sql } from "kysely";
import type { Store, Tx } from "../store/open-store.ts";
import { columnList, insertRows } from "../store/table.ts";
import { type SecretRow, secretsTable } from "./db-rows.ts";
import { aboutRow } from "./envelope.ts";
import type { FetchedSecret, SecretProvider } from "./provider.ts";
import type { ReferenceOf } from "./reference.ts";
import { dbNamePattern } from "./reference-readers.ts";
import type { SealedTable } from "./rewrap.ts";
import type { Sealer } from "./sealer.ts";
import { SecretValue } from "./secret-value.ts";

type Ref = ReferenceOf<"db">;

/** Its table, for the change of master keys. */
export const sealedSecrets: SealedTable = {
  name: "secrets",
  row: ["name", "version"],
  about: ([name = "", version = ""]) => aboutOf({ name, version: Number(version) }),
};

/**
 * The embedded store: an envelope for each version, bound to its name and number, so that nobody who can write the
 * table can put one secret in another's place, or an old version after a new one. `put` and `remove` join the caller's
 * transaction, in which the audit log is written too.
 */
export interface DbSecrets extends SecretProvider<Ref> {
  /** A new version; the one before stays readable as the previous one. Returns its number. */
  put(tx: Tx, name: string, value: SecretValue): Promise<number>;
  /** All versions. Returns how many there were. */
  remove(tx: Tx, name: string): Promise<number>;
  /** Names and numbers, never values. By name, after `after`. */
  list(tx: Tx, options?: { after?: string; limit?: number }): Promise<SecretEntry[]>;
}

export interface SecretEntry {
  name: string;
  version: number;
  createdAtMs: number;
}

/** The newest of each; a rotation needs two, the others are for going back. */
const versionsKept = 5;
const bytesMax = 64 * 1024;
const refreshMs = 30_000;

export function createDbSecrets(
  store: Store,
  sealer: Sealer,
  readMasterKeys: () => Promise<void>,
): DbSecrets {
  async function read(name: string, text: string, version: string | undefined): Promise<FetchedSecret> {
    const row = await find(store, name, version);
    if (row === undefined)
      throw new MigError(
        "secret_invalid",
        `${text} is not in the database${version === undefined ? "" : " in this version"}`,
      );
    const about = aboutOf(row);
    try {
      return { value: new SecretValue(sealer.openBytes(row.sealed, about)), version: String(row.version) };
    } catch (error) {
      if (!(error instanceof MigError) || error.code !== "secret_unavailable") throw named(error, text);
    }
    // Another replica has read a new master key before us, or we have read none yet.
    await readMasterKeys();
    try {
      return { value: new SecretValue(sealer.openBytes(row.sealed, about)), version: String(row.version) };
    } catch (error) {
      throw named(error, text);
    }
  }

  return {
    refreshMs: () => refreshMs,
    fetch: ({ name, text, version }) => read(name, text, version),
    async fetchPrevious({ name, text, version }, current) {
      const before = Number(current) - 1;
      if (version !== undefined || before < 1) return undefined;
      return read(name, text, String(before)).catch((error: unknown) => {
        if (error instanceof MigError && error.code === "secret_invalid") return undefined;
        throw error;
      });
    },
    async put(tx, name, value) {
      if (!dbNamePattern.test(name))
        throw new MigError(
          "invalid_request",
          "a secret's name is one to four words of a-z, 0-9 and ._- with / between them, as app/123456",
        );
      if (value.byteLength === 0 || value.byteLength > bytesMax)
        throw new MigError("invalid_request", `a secret has 1 to ${bytesMax} bytes`);
      // Two who put at once: the second waits here and counts on.
      await sql`select pg_advisory_xact_lock(hashtextextended(${`secret ${name}`}, 11))`.execute(tx);
      const { rows } = await sql<{
        last: number;
        nowMs: number;
      }>`select coalesce(max(version), 0)::float8 as last,
        round(extract(epoch from clock_timestamp()) * 1000)::float8 as "nowMs" from secrets where name = ${name}`.execute(
        tx,
      );
      const version = (rows[0]?.last ?? 0) + 1;
      const bytes = value.revealBytes();
      const sealed = sealer.sealBytes(bytes, aboutOf({ name, version }));
      bytes.fill(0);
      const row: SecretRow = { name, version, sealed, createdAtMs: rows[0]?.nowMs ?? Date.now() };
      await insertRows(secretsTable, [row]).execute(tx);
      await sql`delete from secrets where name = ${name} and version <= ${version - versionsKept}`.execute(
        tx,
      );
      return version;
    },
    async remove(tx, name) {
      const { numAffectedRows = 0n } = await sql`delete from secrets where name = ${name}`.execute(tx);
      return Number(numAffectedRows);
    },
    async list(tx, { after = "", limit = 100 } = {}) {
      const { rows } = await sql<SecretEntry>`select distinct on (name) name, version::float8 as version,
        round(extract(epoch from created_at) * 1000)::float8 as "createdAtMs"
        from secrets where name > ${after} order by name, version desc limit ${Math.min(1_000, limit)}`.execute(
        tx,
      );
      return rows;
    },
  };
}

const aboutOf = ({ name, version }: Pick<SecretRow, "name" | "version">): string =>
  aboutRow("secrets", name, version);

async function find(store: Store, name: string, version: string | undefined): Promise<SecretRow | undefined> {
  const { rows } = await store.transact((tx) =>
    sql<SecretRow>`select ${columnList(secretsTable)} from secrets
      where name = ${name} and (${version ?? null}::bigint is null or version = ${version ?? null}::bigint)
      order by version desc limit 1`.execute(tx),
  );
  return rows[0];
}

function named(error: unknown, text: string): unknown {
  if (!(error instanceof MigError)) return error;
  const { code, message, retryAfterMs } = error;
  return new MigError(code, `${text}: ${message}`, retryAfterMs === undefined ? {} : { retryAfterMs });
}
