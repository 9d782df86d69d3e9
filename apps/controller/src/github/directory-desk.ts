import { MigError } from "@mig/lifecycle";
import { isId, type JsonObject, readText, toJsonObject, type Unknown } from "@mig/protocol";
import type { AppConfig } from "../config/apps.ts";
import type { OrgConfig } from "../config/orgs.ts";
import type { PoolConfig } from "../config/pools.ts";
import type { Store, Tx } from "../store/open-store.ts";
import type { CheckReport } from "./check-app.ts";
import type { Directory } from "./directory.ts";
import { keySlots, type SentKeys, splitKeys } from "./directory-keys.ts";
import {
  countVersionUp,
  deleteRow,
  insertRow,
  type Kind,
  kindNames,
  lockDirectory,
  type Rows,
  readRows,
  updateRow,
} from "./directory-rows.ts";
import {
  type DirectoryBase,
  type DirectoryShot,
  type Entry,
  findMisfits,
  takeShot,
} from "./directory-shot.ts";
import { demandUnused } from "./directory-use.ts";

export interface ConfigOf {
  "github-apps": AppConfig;
  orgs: OrgConfig;
  pools: PoolConfig;
}
export type EntryOf<K extends Kind> = Entry<ConfigOf[K]>;

/** Who changes it, for the audit log. */
export interface By {
  readonly actor: string;
  readonly requestId: string;
  readonly address?: string;
}

/** What is to be recorded: `github/` does not know the audit log. */
export interface DirectoryAct extends By {
  readonly orgId: string;
  readonly action: string;
  readonly object: string;
  readonly details: JsonObject;
}

/** What operators may ask about the directory. All promises reject with MigError. */
export interface DirectoryDesk {
  list<K extends Kind>(
    kind: K,
    page: { limit: number; cursor?: string; orgIds?: readonly string[] },
  ): Promise<{ entries: EntryOf<K>[]; nextCursor: string | null }>;
  find<K extends Kind>(kind: K, id: string): Promise<EntryOf<K>>;
  create<K extends Kind>(kind: K, body: Unknown, by: By): Promise<EntryOf<K>>;
  /** What the body leaves out stays; null goes back to the default. */
  change<K extends Kind>(kind: K, id: string, body: Unknown, by: By): Promise<EntryOf<K>>;
  remove(kind: Kind, id: string, by: By): Promise<void>;
  check(appId: string): Promise<CheckReport>;
  /** The GitHub App that serves a pool, or why none does. */
  served(pool: PoolConfig): { app: string } | { problem: string };
}

export interface DirectoryDeskSettings {
  store: Store;
  directory: Directory;
  base: DirectoryBase;
  /** Pools without an App get the fixed token of development mode. */
  mayLackApp: boolean;
  /** Throws MigError when a reference cannot be one, or is none that the API may name. */
  checkReference(reference: string): void;
  /** Seals it in the database; joins the transaction. */
  putKey(tx: Tx, name: string, pem: string): Promise<void>;
  removeKey(tx: Tx, name: string): Promise<void>;
  /** In the transaction that does it. */
  record(tx: Tx, act: DirectoryAct): Promise<void>;
  /** A key was written under this reference. */
  keyChanged(reference: string): void;
  check(app: AppConfig): Promise<CheckReport>;
}

/** All of it is in every replica's memory. */
const entriesMax: Record<Kind, number> = { "github-apps": 100, orgs: 1_000, pools: 5_000 };

/** Checks each change against the whole directory before it is stored, so that nothing in it can contradict the rest. */
export function createDirectoryDesk(settings: DirectoryDeskSettings): DirectoryDesk {
  const { store, directory, base } = settings;

  function find<K extends Kind>(kind: K, shot: DirectoryShot, id: string): EntryOf<K> {
    const found = entriesOf(shot, kind).find(({ config }) => config.id === id);
    if (found !== undefined) return found;
    throw new MigError(
      "not_found",
      `there is no ${kindNames[kind]} ${JSON.stringify(id.slice(0, 64))}; GET /api/v1/${kind} lists those that are known`,
    );
  }

  /** Runs `work` while nobody else changes the directory; what it changes must fit. */
  async function change<T>(
    code: "refused" | "conflict",
    work: (tx: Tx, shot: DirectoryShot, rows: Rows, nowMs: number) => Promise<T>,
  ): Promise<T> {
    const done = await store.transact(async (tx) => {
      const nowMs = await lockDirectory(tx);
      const rows = await readRows(tx);
      const before = takeShot(base, rows);
      const result = await work(tx, before, rows, nowMs);
      demandFit(code, before, takeShot(base, await readRows(tx)));
      await countVersionUp(tx);
      return result;
    });
    await directory.refresh();
    return done;
  }

  function demandFit(code: "refused" | "conflict", before: DirectoryShot, after: DirectoryShot): void {
    const known = new Set(before.problems.map(({ message }) => message));
    const wrong = after.problems.filter(({ message }) => !known.has(message));
    if (wrong.length > 0)
      throw new MigError(
        "invalid_request",
        wrong
          .map(({ message }) => message)
          .slice(0, 20)
          .join("; "),
      );
    const misfits = findMisfits(before);
    const news = [...findMisfits(after)].filter(
      ([who]) => !misfits.has(who) && !(settings.mayLackApp && after.apps.length === 0),
    );
    if (news.length > 0)
      throw new MigError(
        code,
        news
          .slice(0, 20)
          .map(([who, why]) => `the ${who} ${why}`)
          .join("; "),
      );
  }

  /** Keys themselves are sealed in the database; what is left of them in the entry is a reference. */
  async function takeKeys(tx: Tx, spec: JsonObject, sent: SentKeys, changed: string[]): Promise<JsonObject> {
    const next = { ...spec };
    const [first = "", second = ""] = keySlots(readText(spec, "id") ?? "");
    const put = async (slot: string, pem: string): Promise<string> => {
      await settings.putKey(tx, slot, pem);
      changed.push(`db://${slot}`);
      return `db://${slot}`;
    };
    if (sent.key !== undefined) {
      const old = readText(spec, "key");
      const slot = old === `db://${second}` || spec["previous_key"] === `db://${first}` ? second : first;
      next["key"] = await put(slot, sent.key);
      delete next["signer"];
      // The key before stays good until somebody retires it.
      if (old !== undefined && old !== next["key"] && spec["previous_key"] == null)
        next["previous_key"] = old;
    }
    if (sent.previousKey !== undefined)
      next["previous_key"] = await put(next["key"] === `db://${first}` ? second : first, sent.previousKey);
    return next;
  }

  function demandReferences(spec: JsonObject): void {
    for (const key of ["key", "previous_key", "signer"]) {
      const reference = readText(spec, key);
      if (reference !== undefined) settings.checkReference(reference);
    }
  }

  return {
    async list(kind, { limit, cursor, orgIds }) {
      await directory.refresh();
      const after = cursor === undefined ? "" : readCursor(kind, cursor);
      const rest = entriesOf(directory.shot(), kind).filter(
        ({ config }) => config.id > after && isIn(kind, config, orgIds),
      );
      const entries = rest.slice(0, limit);
      const last = entries.at(-1)?.config.id ?? "";
      const nextCursor = rest.length > limit ? Buffer.from(`${kind}:${last}`).toString("base64url") : null;
      return { entries, nextCursor };
    },
    async find(kind, id) {
      await directory.refresh();
      return find(kind, directory.shot(), id);
    },
    async create(kind, body, by) {
      const { given, sent } = splitKeys(kind, body);
      const id = readText(given, "id") ?? "";
      if (!isId(id))
        throw new MigError("invalid_request", 'id is missing or no id: letters, digits, ".", "_" and "-"');
      if (sent.key !== undefined && (given["key"] != null || given["signer"] != null))
        throw new MigError(
          "invalid_request",
          "private_key excludes key and signer: it says where the key is by itself",
        );
      refuseOverApi(kind, given);
      if (kind === "github-apps") demandReferences(given);
      await change("refused", async (tx, shot, rows, nowMs) => {
        const taken = entriesOf(shot, kind).find(({ config }) => config.id === id);
        if (taken !== undefined || rows[kind].some((row) => row.id === id))
          throw new MigError(
            "conflict",
            `there is a ${kindNames[kind]} "${id}" already${taken?.source === "file" ? ", in the controller's file" : ""}; choose another id${taken?.source === "file" ? "" : ", or PATCH it"}`,
          );
        if (rows[kind].length >= entriesMax[kind])
          throw new MigError(
            "refused",
            `there are ${entriesMax[kind]} of them, which is the most; remove one first`,
          );
        const spec = await takeKeys(tx, given, sent, []);
        await insertRow(tx, kind, { id, spec, createdAtMs: nowMs, updatedAtMs: nowMs });
        await settings.record(tx, actOf(kind, id, "create", spec, by));
      });
      return find(kind, directory.shot(), id);
    },
    async change(kind, id, body, by) {
      const { given, sent } = splitKeys(kind, body);
      if (given["id"] !== undefined && given["id"] !== id)
        throw new MigError("invalid_request", "an id cannot be changed; create another and remove this one");
      refuseOverApi(kind, given);
      if (kind === "github-apps") demandReferences(given);
      const changed: string[] = [];
      await change("refused", async (tx, shot, _rows, nowMs) => {
        const row = own(find(kind, shot, id), kind);
        const merged = Object.fromEntries(
          Object.entries({ ...row.spec, ...given }).filter(([, value]) => value !== null),
        );
        const spec = await takeKeys(tx, toJsonObject(merged), sent, changed);
        await updateRow(tx, kind, { ...row, spec, updatedAtMs: nowMs });
        await settings.record(tx, actOf(kind, id, "change", spec, by));
      });
      for (const reference of changed) settings.keyChanged(reference);
      return find(kind, directory.shot(), id);
    },
    async remove(kind, id, by) {
      await change("conflict", async (tx, shot) => {
        const row = own(find(kind, shot, id), kind);
        await demandUnused(tx, kind, id, shot);
        await deleteRow(tx, kind, id);
        await settings.record(tx, actOf(kind, id, "remove", row.spec, by));
        for (const slot of kind === "github-apps" ? keySlots(id) : []) await settings.removeKey(tx, slot);
      });
    },
    async check(appId) {
      await directory.refresh();
      return settings.check(find("github-apps", directory.shot(), appId).config);
    },
    served: (pool) => directory.appOf(pool),
  };
}

function entriesOf<K extends Kind>(shot: DirectoryShot, kind: K): readonly EntryOf<K>[] {
  const entries: { [P in Kind]: readonly EntryOf<P>[] } = {
    "github-apps": shot.apps,
    orgs: shot.orgs,
    pools: shot.pools,
  };
  return entries[kind];
}

function own<C extends { id: string }>({ row, config }: Entry<C>, kind: Kind): NonNullable<Entry<C>["row"]> {
  if (row !== undefined) return row;
  throw new MigError(
    "conflict",
    `the ${kindNames[kind]} "${config.id}" is in the controller's file; change it there and restart the controller`,
  );
}

function refuseOverApi(kind: Kind, given: JsonObject): void {
  if (kind === "pools" && given["legacy_agents"] != null && given["legacy_agents"] !== false)
    throw new MigError(
      "refused",
      "legacy_agents lets in agents without credentials: only the controller's file may say so",
    );
}

function readCursor(kind: Kind, cursor: string): string {
  const text = Buffer.from(cursor, "base64url").toString("utf8");
  const id = text.slice(kind.length + 1);
  if (!text.startsWith(`${kind}:`) || !isId(id))
    throw new MigError("invalid_request", "the cursor is not one that this list gave out");
  return id;
}

const actionNames: Record<Kind, string> = { "github-apps": "app", orgs: "org", pools: "pool" };

function actOf(kind: Kind, id: string, what: string, spec: JsonObject, by: By): DirectoryAct {
  const orgId = kind === "orgs" ? id : kind === "pools" ? (readText(spec, "org_id") ?? "-") : "-";
  return {
    ...by,
    orgId,
    action: `${actionNames[kind]}.${what}`,
    object: `${actionNames[kind]}:${id}`,
    details: { spec },
  };
}

function isIn(
  kind: Kind,
  config: { id: string; orgId?: string },
  orgIds: readonly string[] | undefined,
): boolean {
  if (orgIds === undefined) return true;
  return kind === "orgs"
    ? orgIds.includes(config.id)
    : config.orgId !== undefined && orgIds.includes(config.orgId);
}
