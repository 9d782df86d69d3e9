import { MigError } from "@mig/lifecycle";
import { sql } from "kysely";
import type { Store } from "../store/open-store.ts";
import { etaOf } from "./pace-eta.ts";
import type { GithubRefusal } from "./refusal.ts";
import { retryAfterOf } from "./refusal.ts";

/**
 * What a call costs of the pace: a write is five of GitHub's points, a read one (runner-contract §8.5). `none` is part of
 * a turn that was taken before; it waits for nothing but the end of a limit.
 */
export type Weight = "heavy" | "light" | "none";

/**
 * How fast one App may call GitHub, together with all other replicas (reliability-security §2.9). The row in the
 * database is the clock that they share: who wants to call takes the next free moment from it and waits for it.
 *
 *  - 120 writes a minute at first, ten more after each clean minute up to the most that is configured (170 by default: GitHub's
 *    900 points a minute, with room), half after a secondary limit, never fewer than thirty;
 *  - nobody calls before the end of a `Retry-After`, whichever replica heard it.
 */
export interface Pace {
  /** Resolves when the call may be made. Rejects with `github_rate_limited` and the time to wait when that is too long to hold a caller. */
  admit(weight: Weight): Promise<void>;
  /** Hears of every answer. */
  hear(answer: GithubRefusal): void;
  /** As of now: milliseconds until a caller who is behind `ahead` others has its turn, whichever replica serves it. */
  eta(): Promise<(ahead: number) => number>;
  /** Writes a minute, now. */
  perMinute(): number;
}

export interface PaceSettings {
  store: Store;
  /** The App: limits are counted for each. */
  key: string;
  perMinuteStart?: number;
  perMinuteMax?: number;
  /** How long a caller is held; who would wait for longer is told to come back. */
  holdMs?: number;
  pause(ms: number): Promise<void>;
  onLimit?(retryAfterMs: number): void;
}

const perMinuteMin = 30;
const stepUp = 10;
const lightShare = 0.2;
/**
 * A grant that has its turn looks up its group or installation on the way, and would lose the turn if that were refused
 * because of the turns of others behind it. So reads go a little before writes that wait, and are held for longer; but
 * never so far before that a stream of them leaves no write within the time that a write is held.
 */
const lightAhead = 0.75;
const lightHold = 2;

export function createPace(settings: PaceSettings): Pace {
  const { store, key, perMinuteStart = 120, perMinuteMax = 170, holdMs = 2_000, pause, onLimit } = settings;
  // What this replica saw last: for estimates, and so that a limit holds at once, before the row is written.
  let blockedUntilMs = 0;
  let rate = Math.min(perMinuteStart, perMinuteMax);
  let telling: Promise<void> = Promise.resolve();

  const refuse = (waitMs: number): never => {
    const retryAfterMs = Math.max(1_000, Math.ceil(waitMs));
    throw new MigError(
      "github_rate_limited",
      `GitHub's limits leave no call before ${Math.ceil(retryAfterMs / 1000)} s from now`,
      {
        retryAfterMs,
      },
    );
  };

  /** Takes the next free moment, when it is near enough, and says how far it is away. */
  async function reserve(weight: Weight): Promise<{ waitMs: number; isTaken: boolean }> {
    const share = weight === "heavy" ? 1 : weight === "light" ? lightShare : 0;
    const queued = {
      heavy: sql`next_at`,
      light: sql`next_at - make_interval(secs => ${(lightAhead * holdMs) / 1000}::float8)`,
      none: sql`blocked_until`,
    }[weight];
    const { rows } = await store.transact((tx) =>
      sql<{ wait_ms: number; taken: boolean; per_minute: number }>`
        with had as (
          select per_minute, greatest(next_at, clock_timestamp()) as next_at,
            greatest(blocked_until, clock_timestamp(), ${queued}) as at from github_pace where key = ${key} for update
        ), taken as (
          update github_pace p set
            per_minute = case when now() - p.clean_since >= interval '1 minute' then least(p.per_minute + ${stepUp}, ${perMinuteMax}) else p.per_minute end,
            clean_since = case when now() - p.clean_since >= interval '1 minute' then now() else p.clean_since end,
            next_at = greatest(had.next_at, ${weight === "heavy" ? sql`had.at` : sql`had.next_at`})
              + make_interval(secs => 60.0 * ${share}::float8 / had.per_minute)
          from had where p.key = ${key} and had.at <= clock_timestamp() + make_interval(secs => ${weight === "heavy" ? holdMs : holdMs * lightHold}::float8 / 1000)
          returning 1
        )
        select (extract(epoch from had.at - clock_timestamp()) * 1000)::float8 as wait_ms,
          exists (select 1 from taken) as taken, had.per_minute::float8 as per_minute from had`.execute(tx),
    );
    const row = rows[0];
    if (row === undefined) {
      await store.transact((tx) =>
        sql`insert into github_pace (key, per_minute, next_at, blocked_until, clean_since)
          values (${key}, ${rate}, now(), now(), now()) on conflict do nothing`.execute(tx),
      );
      return reserve(weight);
    }
    rate = row.per_minute;
    return { waitMs: Math.max(0, row.wait_ms), isTaken: row.taken };
  }

  return {
    async admit(weight) {
      await telling;
      const leftMs = blockedUntilMs - performance.now();
      if (leftMs > holdMs) refuse(leftMs);
      const { waitMs, isTaken } = await reserve(weight);
      if (!isTaken) refuse(waitMs);
      if (waitMs > 0) await pause(waitMs);
      // A limit that was heard while this one waited for its turn.
      await telling;
      const blockedMs = blockedUntilMs - performance.now();
      if (blockedMs > 0) refuse(blockedMs);
    },
    hear(answer) {
      const { status, headers } = answer;
      const retryAfterMs = status === 403 || status === 429 ? retryAfterOf(answer, Date.now()) : undefined;
      const spentUntilMs =
        status < 400 && String(headers["x-ratelimit-remaining"]) === "0"
          ? retryAfterOf({ ...answer, status: 429 }, Date.now())
          : undefined;
      const waitMs = retryAfterMs ?? spentUntilMs;
      if (waitMs === undefined) return;
      blockedUntilMs = Math.max(blockedUntilMs, performance.now() + waitMs);
      const isSecondary = retryAfterMs !== undefined && String(headers["x-ratelimit-remaining"]) !== "0";
      if (isSecondary) rate = Math.max(perMinuteMin, rate / 2);
      if (retryAfterMs !== undefined) onLimit?.(waitMs);
      telling = telling.then(() => tell(waitMs, isSecondary)).catch(() => {});
    },
    async eta() {
      await telling;
      // From the shared row: this replica may not have called for long, or not have heard of a limit that another one heard.
      const { rows } = await store.transact((tx) =>
        sql<{ open_in_ms: number; per_minute: number; clean_for_ms: number }>`select per_minute,
          (extract(epoch from greatest(next_at, blocked_until) - clock_timestamp()) * 1000)::float8 as open_in_ms,
          (extract(epoch from clock_timestamp() - clean_since) * 1000)::float8 as clean_for_ms
          from github_pace where key = ${key}`.execute(tx),
      );
      const row = rows[0];
      const view = {
        openInMs: Math.max(row?.open_in_ms ?? 0, blockedUntilMs - performance.now()),
        perMinute: row?.per_minute ?? rate,
        perMinuteMax,
        stepUp,
        cleanForMs: row?.clean_for_ms ?? 0,
      };
      return (ahead) => etaOf(view, ahead);
    },
    perMinute: () => rate,
  };

  async function tell(waitMs: number, isSecondary: boolean): Promise<void> {
    await store.transact((tx) =>
      sql`update github_pace set
        blocked_until = greatest(blocked_until, clock_timestamp() + make_interval(secs => ${waitMs}::float8 / 1000)),
        per_minute = case when ${isSecondary} then greatest(${perMinuteMin}, per_minute / 2) else per_minute end,
        clean_since = now()
        where key = ${key}`.execute(tx),
    );
  }
}
