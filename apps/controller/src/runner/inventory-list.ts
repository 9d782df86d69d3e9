import { MigError } from "@mig/lifecycle";
import { sql } from "kysely";
import type { Store } from "../store/open-store.ts";
import { textsIn } from "../store/table.ts";
import type { Verdict } from "./inventory-judge.ts";

/** What operators see of the inventory: the last look, which may be minutes old. */
export interface RunnerInventory {
  list(filter: RunnerFilter): Promise<RunnerPage>;
}

export interface RunnerFilter {
  /** Only of these organizations; what belongs to none is left out, and so are the looks at whole accounts. */
  orgIds?: readonly string[];
  verdict?: string;
  poolId?: string;
  orgId?: string;
  app?: string;
  limit: number;
  cursor?: string;
}

export interface RunnerPage {
  runners: RunnerEntry[];
  nextCursor: string | null;
  /** Of all that the filter lets through, but for its verdict; what was removed is not counted. */
  counts: Partial<Record<Verdict, number>>;
  looks: Look[];
}

export interface RunnerEntry {
  app: string;
  account: string;
  runnerId: number | null;
  runnerName: string;
  vmId: string | null;
  poolId: string | null;
  orgId: string | null;
  verdict: Verdict;
  reason: string;
  status: string;
  busy: boolean;
  offlineAtMs: number | null;
  verdictAtMs: number;
  seenAtMs: number;
  removedAtMs: number | null;
  drainedAtMs: number | null;
}

export interface Look {
  app: string;
  account: string;
  lookedAtMs: number | null;
  nextAtMs: number;
  /** Why the last one failed. */
  problem: string | null;
}

const looksMax = 1_000;

export function createRunnerInventory(store: Store): RunnerInventory {
  return {
    async list(filter) {
      const after = filter.cursor === undefined ? 0 : readCursor(filter.cursor);
      const is = (column: string, value: string | undefined) =>
        value === undefined ? sql`true` : sql`${sql.raw(column)} = ${value.replaceAll("\0", "")}`;
      const chosen = sql`${is("pool_id", filter.poolId)} and ${is("org_id", filter.orgId)} and ${is("app", filter.app)}
        and (${filter.orgIds === undefined} or org_id in ${textsIn(filter.orgIds ?? [])})`;
      return store.transact(async (tx) => {
        const page = await sql<RunnerEntry & { id: number }>`select id::float8 as id, app, account,
          runner_id::float8 as "runnerId", runner_name as "runnerName", vm_id as "vmId", pool_id as "poolId",
          org_id as "orgId", verdict, reason, status, busy, ${ms("offline_at")} as "offlineAtMs",
          ${ms("verdict_at")} as "verdictAtMs", ${ms("seen_at")} as "seenAtMs", ${ms("removed_at")} as "removedAtMs",
          ${ms("drained_at")} as "drainedAtMs" from runner_inventory
          where ${chosen} and ${is("verdict", filter.verdict)} and id > ${after}
          order by id limit ${filter.limit + 1}`.execute(tx);
        const counted = await sql<{
          verdict: Verdict;
          count: number;
        }>`select verdict, count(*)::float8 as count
          from runner_inventory where ${chosen} and removed_at is null group by verdict`.execute(tx);
        const looks = await sql<Look>`select app, account, ${ms("looked_at")} as "lookedAtMs",
          ${ms("next_at")} as "nextAtMs", problem from inventory_turns where ${is("app", filter.app)} and ${filter.orgIds === undefined}
          order by app, account limit ${looksMax}`.execute(tx);
        const shown = page.rows.slice(0, filter.limit);
        const last = shown.at(-1);
        const isMore = page.rows.length > filter.limit && last !== undefined;
        return {
          runners: shown.map(({ id: _, ...entry }) => entry),
          nextCursor: isMore ? Buffer.from(`runner:${last.id}`).toString("base64url") : null,
          counts: Object.fromEntries(counted.rows.map(({ verdict, count }) => [verdict, count])),
          looks: looks.rows,
        };
      });
    },
  };
}

function readCursor(cursor: string): number {
  const text = Buffer.from(cursor, "base64url").toString("utf8");
  const id = Number(/^runner:([1-9]\d{0,14})$/.exec(text)?.[1]);
  if (!Number.isSafeInteger(id) || Buffer.from(text).toString("base64url") !== cursor)
    throw new MigError("invalid_request", "the cursor is not one that this list gave out");
  return id;
}

const ms = (column: string) => sql.raw(`round(extract(epoch from ${column}) * 1000)::float8`);
