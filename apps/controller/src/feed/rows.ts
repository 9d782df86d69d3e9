import type { JsonObject } from "@mig/protocol";
import { sql } from "kysely";
import { type FleetView, readViews } from "../fleet/rows.ts";
import type { Store, Tx } from "../store/open-store.ts";
import { type EventRow, eventsTable } from "../store/rows.ts";
import { columnList, textsIn, toJsonParameter } from "../store/table.ts";
import type { Look } from "./horizon.ts";
import type { FeedItem, FeedKind } from "./item.ts";
import { after, type Extent, type Place } from "./place.ts";

/** Whose events are wanted: looking one up costs, and twenty thousand a second may come. */
export type EventsAsked = "none" | "all" | readonly string[];

export interface Page {
  readonly items: readonly FeedItem[];
  readonly next: Place;
}

interface FeedRow {
  readonly id: number;
  readonly atMs: number;
  readonly kind: FeedKind;
  readonly vmId: string;
  readonly poolId: string;
  readonly orgId: string;
  readonly orderId: string | null;
  readonly size: number;
  readonly body: JsonObject;
}

const rowsAtOnce = 500;
/** One row may hold the five hundred events of one commit. */
const itemsAtOnce = 1_000;

export async function readExtent(tx: Tx): Promise<Extent> {
  const { rows } = await sql<Extent>`select (select id from feed_gone)::float8 as gone,
    (case when is_called then last_value else 0 end)::float8 as last from feed_id_seq`.execute(tx);
  return rows[0] ?? { gone: 0, last: 0 };
}

/** Two statements: the second one's snapshot and xid must be younger than the number that the first has read. */
export async function lookAround(tx: Tx): Promise<Look> {
  const { last } = await readExtent(tx);
  const { rows } = await sql<{ own: string; oldest: string }>`select pg_current_xact_id()::text as own,
    pg_snapshot_xmin(pg_current_snapshot())::text as oldest`.execute(tx);
  const [{ own, oldest } = { own: "0", oldest: "0" }] = rows;
  return { last, ownXid: BigInt(own), oldestXid: BigInt(oldest) };
}

/** From `from` on, as far as row `upTo` at most. "forgotten": some of it has been removed. */
export async function readPage(
  store: Store,
  from: Place,
  upTo: number,
  events: EventsAsked,
): Promise<Page | "forgotten"> {
  return store.transact(async (tx) => {
    const { rows } = await sql<FeedRow>`select id::float8 as id, kind, vm_id as "vmId", pool_id as "poolId",
        org_id as "orgId", order_id as "orderId", coalesce(cardinality(event_ids), 1) as size, body,
        round(extract(epoch from at) * 1000)::float8 as "atMs"
      from feed where id >= ${from.row} and id <= ${upTo} order by id limit ${rowsAtOnce}`.execute(tx);
    const taken = takeUpTo(rows, itemsAtOnce);
    const told = await readEvents(tx, from, taken, events);
    // Two rows of one order would say the same: the later one does.
    const newest = new Map(taken.map(({ orderId, id }) => [orderId, id]));
    const orders = await readOrders(tx, taken);
    // Read last: what has been removed before this was there, or is missed here, too.
    if ((await readExtent(tx)).gone >= from.row) return "forgotten";
    const last = taken.at(-1);
    const isAll = taken.length === rows.length && rows.length < rowsAtOnce;
    return {
      items: taken
        .filter(({ orderId, id }) => orderId === null || newest.get(orderId) === id)
        .flatMap((row) => itemsOf(row, told, orders)),
      next: isAll || last === undefined ? after(upTo) : after(last.id),
    };
  });
}

/** At least one, however much it holds. */
function takeUpTo(rows: readonly FeedRow[], itemsMax: number): readonly FeedRow[] {
  let items = 0;
  const end = rows.findIndex(({ size }, i) => {
    items += size;
    return i > 0 && items > itemsMax;
  });
  return end < 0 ? rows : rows.slice(0, end);
}

type PlacedEvent = EventRow & { readonly row: number; readonly n: number };

async function readEvents(
  tx: Tx,
  from: Place,
  rows: readonly FeedRow[],
  asked: EventsAsked,
): Promise<Map<number, PlacedEvent[]>> {
  const ids = rows.filter(({ kind }) => kind === "event").map(({ id }) => id);
  const byRow = new Map<number, PlacedEvent[]>();
  if (ids.length === 0 || asked === "none") return byRow;
  const onlyVms = asked === "all" ? sql`true` : sql`e.vm_id in ${textsIn(asked)}`;
  const { rows: found } = await sql<PlacedEvent>`select f.id::float8 as row, (u.n - 1)::float8 as n,
      ${columnList(eventsTable, "e")}
    from feed f cross join lateral unnest(f.event_ids) with ordinality as u(event_id, n)
      join events e on e.id = u.event_id
    where f.id in (select one.id::bigint from jsonb_array_elements_text(${toJsonParameter(ids)}::jsonb) as one(id))
      and (f.id > ${from.row} or u.n > ${from.n}) and ${onlyVms}
    order by f.id, u.n`.execute(tx);
  for (const one of found) {
    const known = byRow.get(one.row);
    if (known === undefined) byRow.set(one.row, [one]);
    else known.push(one);
  }
  return byRow;
}

async function readOrders(tx: Tx, rows: readonly FeedRow[]): Promise<Map<string, FleetView>> {
  const ids = new Set(rows.flatMap(({ orderId }) => orderId ?? []));
  return ids.size === 0 ? new Map() : new Map((await readViews(tx, [...ids])).map((one) => [one.id, one]));
}

function itemsOf(
  row: FeedRow,
  told: ReadonlyMap<number, PlacedEvent[]>,
  orders: ReadonlyMap<string, FleetView>,
): FeedItem[] {
  const { atMs } = row;
  switch (row.kind) {
    case "event":
      return (told.get(row.id) ?? []).map(({ row: id, n, ...event }) => ({
        ...{ kind: "event" as const, atMs, event },
        ...{ vmId: event.vmId, poolId: event.poolId, orgId: event.orgId },
        next: n + 1 < row.size ? { row: id, n: n + 1 } : after(id),
      }));
    case "fleet": {
      const order = orders.get(row.orderId ?? "");
      return order === undefined ? [] : [{ kind: row.kind, atMs, order, next: after(row.id) }];
    }
    default: {
      const { kind, vmId, poolId, orgId, body } = row;
      return [{ kind, atMs, vmId, poolId, orgId, body, next: after(row.id) }];
    }
  }
}
