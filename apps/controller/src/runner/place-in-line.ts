import { sql } from "kysely";
import type { GrantRow } from "../store/grant-rows.ts";
import type { Tx } from "../store/open-store.ts";

/** Where a wish stands, as the table says it at this moment. */
export interface Place {
  /** How many are served before it when pools take turns, of whom none has its moment of the pace yet. */
  ahead: number;
  /** Until then nobody tries it again, because the last try told so. */
  notBeforeInMs: number;
}

/**
 * Of each pool as many stand before a wish as stand before it in its own, and one more where that pool's turn comes
 * first. What is being made has had its moment already, and the next free moment of the pace is behind it.
 */
export async function placeInLine(tx: Tx, row: GrantRow): Promise<Place> {
  const { app, poolId, wantedAtMs, id } = row;
  const { rows } = await sql<{ ahead: number; not_before_in_ms: number }>`
    with line as (
      select pool_id, count(*) as waiting, min(id) as head,
        count(*) filter (where pool_id = ${poolId} and (wanted_at, id) < (to_timestamp(${wantedAtMs} / 1000.0), ${id})) as before
      from grants
      where app = ${app} and (state = 'wanted' or (state = 'making' and claimed_until < clock_timestamp()))
      group by pool_id
    ), ranked as (
      select line.*, rank() over (order by t.served_at nulls first, line.head) as turn
      from line left join grant_turns t on t.app = ${app} and t.pool_id = line.pool_id
    ), own as (select before, turn from ranked where pool_id = ${poolId})
    select coalesce((select sum(case when ranked.pool_id = ${poolId} then own.before
          else least(ranked.waiting, own.before + case when ranked.turn < own.turn then 1 else 0 end) end)
        from ranked, own), 0)::float8 as ahead,
      coalesce((select extract(epoch from not_before - clock_timestamp()) * 1000
        from grants where id = ${id} and state = 'wanted'), 0)::float8 as not_before_in_ms`.execute(tx);
  const [found] = rows;
  return { ahead: found?.ahead ?? 0, notBeforeInMs: found?.not_before_in_ms ?? 0 };
}
