import { MigError, type OperatorRole } from "@mig/lifecycle";
import { sql } from "kysely";
import { recordAct } from "../audit/audit.ts";
import type { Act } from "../audit/chain.ts";
import type { Store, Tx } from "../store/open-store.ts";
import { columnList, insertRows, type Table } from "../store/table.ts";
import { isSameHash, mintBearer, parseBearer } from "./bearer.ts";

/** The keys of operators and of their programs. */
export interface ApiKeyRow {
  id: string;
  name: string;
  hash: string;
  role: OperatorRole;
  /** Null: all organizations. */
  orgs: string[] | null;
  createdBy: string;
  createdAtMs: number;
  expiresAtMs: number | null;
  lastUsedAtMs: number | null;
  revokedAtMs: number | null;
}

const table: Table<ApiKeyRow> = {
  name: "api_keys",
  columns: {
    id: "text",
    name: "text",
    hash: "text",
    role: "text",
    orgs: "json",
    createdBy: "text",
    createdAtMs: "time",
    expiresAtMs: "time",
    lastUsedAtMs: "time",
    revokedAtMs: "time",
  },
};

/** A revoked key is good for so long on another replica. */
const heldMs = 1_500;
const usedEachMs = 60_000;
const keysMax = 1_000;
/** Of keys that nobody has: a flood of them must not fill the memory, nor ask the database each time. */
const rememberedMax = 5_000;

export interface NewKey {
  readonly name: string;
  readonly role: OperatorRole;
  readonly orgs?: readonly string[];
  readonly expiresInMs?: number;
  readonly by: string;
}

export class ApiKeys {
  readonly #store: Store;
  readonly #seen = new Map<string, { row: ApiKeyRow | undefined; untilMs: number }>();
  readonly #used = new Map<string, number>();

  constructor(store: Store) {
    this.#store = store;
  }

  /** The key's row, if the text is a key and still good. */
  async find(text: string): Promise<ApiKeyRow | undefined> {
    const bearer = parseBearer("key", text);
    if (bearer === undefined) return undefined;
    const row = await this.#read(bearer.id);
    if (row === undefined || !isSameHash(row.hash, bearer.hash)) return undefined;
    if (row.revokedAtMs !== null || (row.expiresAtMs !== null && row.expiresAtMs <= Date.now()))
      return undefined;
    this.#noteUse(row.id);
    return row;
  }

  /** The text is shown once and kept nowhere. `act` is written with it. */
  async create(
    key: NewKey,
    act: Omit<Act, "object" | "result" | "details">,
  ): Promise<{ row: ApiKeyRow; text: string }> {
    return this.#store.transact((tx) => createKey(tx, key, act));
  }

  /** The first key of a fleet that has none. Undefined when there is one. */
  async createFirst(act: Omit<Act, "object" | "result" | "details">): Promise<string | undefined> {
    return this.#store.transact(async (tx) => {
      // Two replicas that start together make one between them.
      await sql`lock table api_keys in exclusive mode`.execute(tx);
      const { rows } = await sql`select 1 from api_keys limit 1`.execute(tx);
      if (rows.length > 0) return undefined;
      const made = await createKey(tx, { name: "first", role: "admin", by: "controller" }, act);
      return made.text;
    });
  }

  async list(): Promise<ApiKeyRow[]> {
    return this.#store.transact(async (tx) => {
      const { rows } =
        await sql<ApiKeyRow>`select ${columnList(table)} from api_keys order by created_at, id`.execute(tx);
      return rows;
    });
  }

  /** Keeps the row, for the record. Of a key that is revoked already nothing changes. */
  async revoke(id: string, act: Omit<Act, "object" | "result" | "details">): Promise<ApiKeyRow> {
    const row = await this.#store.transact(async (tx) => {
      await sql`update api_keys set revoked_at = coalesce(revoked_at, clock_timestamp()) where id = ${id}`.execute(
        tx,
      );
      const { rows } =
        await sql<ApiKeyRow>`select ${columnList(table)} from api_keys where id = ${id}`.execute(tx);
      const [found] = rows;
      if (found === undefined)
        throw new MigError("not_found", `there is no key ${JSON.stringify(id.slice(0, 64))}`);
      await recordAct(tx, { ...act, object: `key:${id}`, result: "done", details: { name: found.name } });
      return found;
    });
    this.#seen.delete(id);
    return row;
  }

  async #read(id: string): Promise<ApiKeyRow | undefined> {
    const seen = this.#seen.get(id);
    if (seen !== undefined && seen.untilMs > performance.now()) return seen.row;
    const row = await this.#store.transact(async (tx) => {
      const { rows } =
        await sql<ApiKeyRow>`select ${columnList(table)} from api_keys where id = ${id}`.execute(tx);
      return rows[0];
    });
    if (this.#seen.size >= rememberedMax) this.#seen.clear();
    this.#seen.set(id, { row, untilMs: performance.now() + heldMs });
    return row;
  }

  /** Once a minute, and nobody waits for it. */
  #noteUse(id: string): void {
    const nowMs = performance.now();
    if (nowMs < (this.#used.get(id) ?? -usedEachMs) + usedEachMs) return;
    this.#used.set(id, nowMs);
    this.#store
      .transact((tx) =>
        sql`update api_keys set last_used_at = clock_timestamp() where id = ${id}`.execute(tx),
      )
      .catch(() => this.#used.delete(id));
  }
}

async function createKey(
  tx: Tx,
  { name, role, orgs, expiresInMs, by }: NewKey,
  act: Omit<Act, "object" | "result" | "details">,
): Promise<{ row: ApiKeyRow; text: string }> {
  const { rows } = await sql<{ count: number; nowMs: number }>`select count(*)::float8 as count,
    round(extract(epoch from clock_timestamp()) * 1000)::float8 as "nowMs" from api_keys where revoked_at is null`.execute(
    tx,
  );
  const { count = 0, nowMs = Date.now() } = rows[0] ?? {};
  if (count >= keysMax)
    throw new MigError("refused", `there are ${keysMax} keys, which is the most; revoke some first`);
  const { id, text, hash } = mintBearer("key");
  const row: ApiKeyRow = {
    id,
    name,
    hash,
    role,
    orgs: orgs === undefined ? null : [...orgs],
    createdBy: by,
    createdAtMs: nowMs,
    expiresAtMs: expiresInMs === undefined ? null : nowMs + expiresInMs,
    lastUsedAtMs: null,
    revokedAtMs: null,
  };
  await insertRows(table, [row]).execute(tx);
  await recordAct(tx, {
    ...act,
    object: `key:${id}`,
    result: "done",
    details: { name, role, orgs: row.orgs ?? "all" },
  });
  return { row, text };
}
