import { sql } from "kysely";
import type { GrantRow } from "../store/grant-rows.ts";
import type { Store } from "../store/open-store.ts";

/**
 * When a wish will have its turn. One look at the line and the pace serves all who ask within a quarter of a second:
 * when a thousand requests ended together and each looked for itself, no grant was made for over a second.
 */
export interface LineView {
  /** Milliseconds until the turn of this wish. */
  turnInMs(row: GrantRow): Promise<number>;
}

export interface ViewSettings {
  store: Store;
  /** The pace of an App over all replicas: milliseconds until the turn of one with so many before it. */
  paceOf(app: string): Promise<(ahead: number) => number>;
}

interface Look {
  atMs: number;
  pools: Map<string, PoolLine>;
  etaMs(ahead: number): number;
}

interface PoolLine {
  /** In the order in which they are served, each with the time before which nobody tries it again. */
  waiting: Map<string, { before: number; notBeforeInMs: number }>;
  /** Whose turn comes first. */
  turn: number;
}

const keepMs = 250;

export function createLineView({ store, paceOf }: ViewSettings): LineView {
  const looks = new Map<string, { look: Promise<Look>; untilMs: number }>();

  function lookAt(app: string): Promise<Look> {
    const known = looks.get(app);
    if (known !== undefined && known.untilMs > performance.now()) return known.look;
    const entry = { look: look(app), untilMs: Number.POSITIVE_INFINITY };
    looks.set(app, entry);
    const end = (): void => {
      entry.untilMs = performance.now() + keepMs;
    };
    // A failure is told to those who waited for it, and kept for nobody else.
    entry.look.then(end, () => looks.delete(app));
    return entry.look;
  }

  async function look(app: string): Promise<Look> {
    const etaMs = await paceOf(app);
    // What is being made has had its moment already: the next free moment of the pace is behind it.
    const { rows } = await store.transact((tx) =>
      sql<{ id: string; pool_id: string; later_ms: number }>`
        select g.id, g.pool_id, (extract(epoch from g.not_before - clock_timestamp()) * 1000)::float8 as later_ms
        from grants g left join grant_turns t on t.app = g.app and t.pool_id = g.pool_id
        where g.app = ${app} and (g.state = 'wanted' or (g.state = 'making' and g.claimed_until < clock_timestamp()))
        order by t.served_at nulls first, g.wanted_at, g.id`.execute(tx),
    );
    const pools = new Map<string, PoolLine>();
    for (const { id, pool_id: poolId, later_ms: notBeforeInMs } of rows) {
      const pool = pools.get(poolId) ?? { waiting: new Map(), turn: pools.size };
      pool.waiting.set(id, { before: pool.waiting.size, notBeforeInMs });
      pools.set(poolId, pool);
    }
    return { atMs: performance.now(), pools, etaMs };
  }

  return {
    async turnInMs(row) {
      const { atMs, pools, etaMs } = await lookAt(row.app);
      const own = pools.get(row.poolId);
      const place = own?.waiting.get(row.id);
      // Who is not in the picture came later, and is the last of its pool, or is being made right now.
      const before = place?.before ?? (row.state === "wanted" ? (own?.waiting.size ?? 0) : 0);
      const turn = own?.turn ?? pools.size;
      let ahead = before;
      if (row.state === "wanted")
        for (const [poolId, pool] of pools)
          if (poolId !== row.poolId)
            // Pools take turns: as many of each, and one more where its turn comes first.
            ahead += Math.min(pool.waiting.size, before + Number(pool.turn < turn));
      const inMs = Math.max(place?.notBeforeInMs ?? 0, etaMs(ahead));
      return Math.max(0, inMs - (performance.now() - atMs));
    },
  };
}
