import { type Log, pause } from "@mig/kit";
import { isRetryable, MigError } from "@mig/lifecycle";
import { readText, readTexts } from "@mig/protocol";
import { sql } from "kysely";
import type { Pace } from "../github/pace.ts";
import type { Registrar, RegistrarWish, Registration } from "../github/registrar.ts";
import { type GrantRow, grantsTable } from "../store/grant-rows.ts";
import type { Store } from "../store/open-store.ts";
import { columnList } from "../store/table.ts";
import { aboutOf, type Sealer } from "./grant-line.ts";

/**
 * Makes what the line wants, for one App, beside all other replicas: takes a turn of the pace, then the row whose
 * pool has waited longest since its last turn, asks GitHub, and writes what came of it if the claim still holds.
 * A replica that dies in between loses nothing: its claim ends after a minute, the runner that it may have made is
 * removed by name, and the next try has another name.
 */
export interface GrantMaker {
  /** There is something in the line. */
  wake(): void;
  closed: Promise<void>;
}

export interface MakerSettings {
  app: string;
  store: Store;
  pace: Pace;
  registrar: Registrar;
  sealer: Sealer;
  /** A grant can be taken, or will not come. */
  onSettled(row: Pick<GrantRow, "vmId" | "requestId">): void;
  /** Calls under way at once; the pace rules how many a minute. */
  atOnceMax?: number;
  log: Log;
  signal: AbortSignal;
}

const claimMs = 60_000;
/** Of what GitHub refused. That it does not answer is waited for as long as somebody wants the grant. */
const triesMax = 8;
const wantedMaxMs = 3_600_000;
/** Soon enough to be back within five seconds of GitHub (R08). */
const laterMaxMs = 4_000;
const idleMs = 1_000;

export function startGrantMaker(settings: MakerSettings): GrantMaker {
  const { app, store, pace, registrar, sealer, atOnceMax = 8, log, signal } = settings;
  const underWay = new Set<Promise<void>>();
  let rouse = (): void => {};
  const rest = (ms: number): Promise<void> => {
    const nap = new AbortController();
    rouse = () => nap.abort();
    return pause(ms, AbortSignal.any([nap.signal, signal]));
  };

  async function run(): Promise<void> {
    while (!signal.aborted) {
      try {
        if (underWay.size >= atOnceMax) await Promise.race(underWay);
        else if (!(await isAnyDue())) await rest(idleMs);
        else if (await hasTurn()) {
          const row = await claim();
          if (row === undefined) continue;
          const work = make(row).finally(() => underWay.delete(work));
          underWay.add(work);
        }
      } catch (error) {
        if (!signal.aborted) log.warn({ error, app }, "grants cannot be made now");
        await pause(idleMs, signal);
      }
    }
    await Promise.allSettled(underWay);
  }

  async function hasTurn(): Promise<boolean> {
    try {
      await pace.admit("heavy");
      return true;
    } catch (error) {
      if (!(error instanceof MigError) || error.code !== "github_rate_limited") throw error;
      await pause(Math.min(error.retryAfterMs ?? idleMs, 5_000), signal);
      return false;
    }
  }

  const due = sql`app = ${app} and ((state = 'wanted' and not_before <= clock_timestamp())
    or (state = 'making' and claimed_until < clock_timestamp()))`;

  async function isAnyDue(): Promise<boolean> {
    const { rows } = await store.transact((tx) => sql`select 1 from grants where ${due} limit 1`.execute(tx));
    return rows.length > 0;
  }

  async function claim(): Promise<(GrantRow & { nameBefore: string | null }) | undefined> {
    const { rows } = await store.transact(async (tx) => {
      const claimed = await sql<GrantRow & { nameBefore: string | null }>`
        with next as (
          select g.id, g.pool_id, g.runner_name as name_before from (select distinct pool_id from grants where ${due}) p
            left join grant_turns t on t.app = ${app} and t.pool_id = p.pool_id
            cross join lateral (select id, pool_id, runner_name from grants
              where ${due} and pool_id = p.pool_id order by wanted_at, id limit 1 for update skip locked) g
          order by t.served_at nulls first, g.id limit 1
        ), turn as (
          insert into grant_turns (app, pool_id, served_at) select ${app}, pool_id, clock_timestamp() from next
          on conflict (app, pool_id) do update set served_at = excluded.served_at
        )
        update grants set state = 'making', tries = grants.tries + 1,
          claimed_until = clock_timestamp() + ${claimMs} * interval '1 millisecond',
          runner_name = left(grants.vm_id, 48) || '-' || right(grants.id, 8) || '-' || (grants.tries + 1)::text
        from next where grants.id = next.id
        returning ${columnList(grantsTable, "grants")}, next.name_before as "nameBefore"`.execute(tx);
      return claimed;
    });
    return rows[0];
  }

  async function make(row: GrantRow & { nameBefore: string | null }): Promise<void> {
    const wish = wishOf(row);
    let made: Registration;
    try {
      // An earlier try may have made a runner whose answer nobody got.
      if (row.nameBefore !== null && wish.registration === "jit")
        await registrar.remove({ runnerUrl: wish.runnerUrl, runnerName: row.nameBefore, hasTurn: true });
      made = await registrar.register(wish);
    } catch (error) {
      await giveBack(row, error);
      return;
    }
    const sealed = sealer.seal(JSON.stringify(made.secret), aboutOf(row));
    const kept = await store.transact((tx) =>
      sql`update grants set state = 'made', sealed = ${sealed}, runner_id = ${made.runnerId ?? null}::bigint,
        made_at = clock_timestamp(), expires_at = to_timestamp(${made.expiresAtMs} / 1000.0), problem = null
        where id = ${row.id} and state = 'making' and tries = ${row.tries} returning 1`.execute(tx),
    );
    log.info(
      {
        app,
        vm_id: row.vmId,
        pool_id: row.poolId,
        org_id: row.orgId,
        runner_name: row.runnerName,
        runner_id: made.runnerId,
        tries: row.tries,
      },
      "a grant was made",
    );
    if (kept.rows.length > 0) return settled(row);
    // It took longer than the claim, or nobody wants it any more.
    log.warn({ vm_id: row.vmId, runner_name: row.runnerName }, "a grant came too late and is taken back");
    if (made.runnerId !== undefined)
      await registrar
        .remove({ runnerUrl: wish.runnerUrl, runnerName: wish.runnerName, runnerId: made.runnerId })
        .catch((error: unknown) => log.warn({ error }, "a runner that nobody wants could not be removed"));
  }

  async function giveBack(row: GrantRow, error: unknown): Promise<void> {
    const known =
      error instanceof MigError
        ? error
        : new MigError("internal", "the grant could not be made", { cause: error });
    const { code, category, message, retryAfterMs } = known;
    log.warn({ app, vm_id: row.vmId, tries: row.tries, error: known }, "a grant could not be made");
    const isAway =
      code === "github_unavailable" || code === "github_rate_limited" || code === "secret_unavailable";
    const mayHelp =
      isRetryable(category) && (isAway ? Date.now() - row.wantedAtMs < wantedMaxMs : row.tries < triesMax);
    const laterMs =
      code === "github_conflict" ? 0 : Math.max(retryAfterMs ?? 0, backoffMs(row.tries, Math.random()));
    const problem = JSON.stringify({
      code,
      category,
      message,
      ...(mayHelp && retryAfterMs !== undefined ? { retry_after_ms: retryAfterMs } : {}),
    });
    await store.transact((tx) =>
      sql`update grants set state = ${mayHelp ? "wanted" : "failed"}, problem = ${problem}::jsonb, claimed_until = null,
        not_before = clock_timestamp() + ${laterMs} * interval '1 millisecond',
        settled_at = ${mayHelp ? null : sql`clock_timestamp()`}
        where id = ${row.id} and state = 'making' and tries = ${row.tries}`.execute(tx),
    );
    if (!mayHelp) await settled(row);
  }

  /** The command that waits for it may be delivered now, whichever replica has its VM. */
  async function settled(row: GrantRow): Promise<void> {
    await store.transact(async (tx) => {
      await sql`update commands set not_before = now() where id = ${row.requestId} and vm_id = ${row.vmId} and state = 'pending'`.execute(
        tx,
      );
      await store.wakes.announce(tx, [row.vmId]);
    });
    settings.onSettled(row);
  }

  return { wake: () => rouse(), closed: run() };
}

/** The first after a quarter to half a second; spread, so that those who failed together do not return together. */
export function backoffMs(tries: number, random: number): number {
  return Math.min(laterMaxMs, 250 * 2 ** tries) * (0.5 + random / 2);
}

function wishOf({ wish, runnerName, vmId }: GrantRow): RegistrarWish {
  return {
    runnerUrl: readText(wish, "runnerUrl") ?? "",
    runnerGroup: readText(wish, "runnerGroup") ?? "",
    labels: readTexts(wish, "labels") ?? [],
    registration: readText(wish, "registration") === "token" ? "token" : "jit",
    runnerName: runnerName ?? vmId,
  };
}
