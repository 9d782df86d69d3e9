import { MigError } from "@mig/lifecycle";
import { type RawBuilder, sql } from "kysely";
import type { Store } from "../store/open-store.ts";
import {
  type CommandRow,
  commandsTable,
  type EventRow,
  eventsTable,
  type HeartbeatRow,
  heartbeatsTable,
} from "../store/rows.ts";
import { columnList, type Table, textsIn } from "../store/table.ts";

export interface ListFilter {
  /** Only of these organizations; undefined: all. */
  readonly orgIds?: readonly string[];
  readonly vmId?: string;
  readonly poolId?: string;
  readonly orgId?: string;
  readonly type?: string;
  readonly state?: string;
  readonly sinceMs?: number;
  readonly untilMs?: number;
  readonly limit: number;
  readonly cursor?: string;
}

export interface Page<R> {
  readonly rows: (R & Place)[];
  readonly nextCursor: string | null;
}

interface Place {
  poolId: string;
  orgId: string;
  place: string;
}

/**
 * Newest first, walking down a number that is given once: what is added in the meantime comes above the first page, so
 * nothing is shown twice and nothing that was there is left out.
 */
interface List<R> {
  readonly name: string;
  readonly table: Table<R>;
  /** Which of the two says whose a row is. Events keep it as it was; the others are their VM's. */
  readonly owner: "t" | "v";
  readonly time: string;
  readonly idType: "bigint" | "text";
  readonly hasType: boolean;
  readonly hasState: boolean;
}

const eventList: List<EventRow> = {
  name: "event",
  table: eventsTable,
  owner: "t",
  time: "received_at",
  idType: "bigint",
  hasType: true,
  hasState: false,
};
const heartbeatList: List<HeartbeatRow> = {
  name: "heartbeat",
  table: heartbeatsTable,
  owner: "v",
  time: "at",
  idType: "bigint",
  hasType: false,
  hasState: false,
};
const commandList: List<CommandRow> = {
  name: "command",
  table: commandsTable,
  owner: "v",
  time: "created_at",
  idType: "text",
  hasType: true,
  hasState: true,
};

export const listEvents = (store: Store, filter: ListFilter) => walk(store, eventList, filter);
export const listHeartbeats = (store: Store, filter: ListFilter) => walk(store, heartbeatList, filter);
export const listCommands = (store: Store, filter: ListFilter) => walk(store, commandList, filter);

/** With whose it is, so that it can be asked who may see it. */
export async function findCommand(store: Store, id: string): Promise<CommandRow & Place> {
  const { rows } = await store.transact((tx) =>
    sql<
      CommandRow & Place
    >`select ${columnList(commandsTable, "t")}, v.pool_id as "poolId", v.org_id as "orgId",
      t.id as place from commands t join vms v on v.vm_id = t.vm_id where t.id = ${id}`.execute(tx),
  );
  const row = rows[0];
  if (row === undefined)
    throw new MigError(
      "not_found",
      "there is no such command; GET /api/v1/commands lists those that there are",
    );
  return row;
}

async function walk<R>(store: Store, list: List<R>, filter: ListFilter): Promise<Page<R>> {
  const { name, table, idType, time } = list;
  const owner = sql.raw(list.owner);
  const join = sql.raw(list.owner === "v" ? "join vms v on v.vm_id = t.vm_id" : "");
  const conditions: RawBuilder<unknown>[] = [sql`true`];
  const only = (value: unknown, condition: RawBuilder<unknown>): void => {
    if (value !== undefined) conditions.push(condition);
  };
  only(filter.orgIds, sql`${owner}.org_id in ${textsIn(filter.orgIds ?? [])}`);
  only(filter.vmId, sql`t.vm_id = ${filter.vmId}`);
  only(filter.poolId, sql`${owner}.pool_id = ${filter.poolId}`);
  only(filter.orgId, sql`${owner}.org_id = ${filter.orgId}`);
  if (list.hasType) only(filter.type, sql`t.type = ${filter.type}`);
  if (list.hasState) only(filter.state, sql`t.state = ${filter.state}`);
  only(filter.sinceMs, sql`t.${sql.raw(time)} >= to_timestamp(${filter.sinceMs}::float8 / 1000.0)`);
  only(filter.untilMs, sql`t.${sql.raw(time)} < to_timestamp(${filter.untilMs}::float8 / 1000.0)`);
  if (filter.cursor !== undefined)
    conditions.push(sql`t.id < ${readCursor(list, filter.cursor)}::${sql.raw(idType)}`);
  const { rows } = await store.transact((tx) =>
    sql<R & Place>`select ${columnList(table, "t")}, ${owner}.pool_id as "poolId", ${owner}.org_id as "orgId",
      t.id::text as place from ${sql.raw(table.name)} t ${join}
      where ${sql.join(conditions, sql` and `)} order by t.id desc limit ${filter.limit + 1}`.execute(tx),
  );
  const shown = rows.slice(0, filter.limit);
  const last = shown.at(-1);
  const isMore = rows.length > filter.limit && last !== undefined;
  return { rows: shown, nextCursor: isMore ? cursorOf(name, last.place) : null };
}

function cursorOf(name: string, place: string): string {
  return Buffer.from(`${name}:${place}`).toString("base64url");
}

function readCursor({ name, idType }: List<never>, cursor: string): string {
  const place = Buffer.from(cursor, "base64url")
    .toString("utf8")
    .slice(name.length + 1);
  const isPlace = idType === "bigint" ? /^\d{1,18}$/ : /^[0-9a-f-]{36}$/;
  if (!isPlace.test(place) || cursorOf(name, place) !== cursor)
    throw new MigError("invalid_request", "the cursor is not one that this list gave out");
  return place;
}
