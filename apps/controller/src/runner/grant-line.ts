import { uuid7 } from "@mig/kit";
import { type ErrorCode, errorCodes, MigError } from "@mig/lifecycle";
import { type JsonObject, readText, readTexts } from "@mig/protocol";
import { sql } from "kysely";
import type { Grant } from "../github/grant-source.ts";
import { type GrantRow, grantsTable } from "../store/grant-rows.ts";
import type { Store, Tx } from "../store/open-store.ts";
import { columnList, insertRows } from "../store/table.ts";
import { createLineView } from "./line-view.ts";
import { createLineWaiters } from "./line-waiters.ts";

/**
 * The line for grants. A wish is a row; replicas take rows in turn and ask GitHub (make-grants.ts); whoever wished
 * comes back for it. So a crash loses nothing, thousand VMs at once are a line and not a stampede, and the rules
 * are the database's:
 *
 *  - one live grant for each incarnation of a VM, whatever races (a unique index);
 *  - the same request gets the same grant again for five minutes, because an answer may be lost;
 *  - another request of the same incarnation is refused while one is live, and at most three are made in all
 *    (seed 001: three attempts).
 */
export interface GrantLine {
  /** The grant, or `github_rate_limited` with the time after which to come back. Waits up to `holdMs` for it. */
  take(ask: GrantAsk, holdMs: number): Promise<Grant>;
  /** Something of this VM's has changed: whoever waits for it looks again. */
  wake(vmId: string): void;
}

export interface GrantAsk {
  vmId: string;
  incarnation: string;
  requestId: string;
  poolId: string;
  orgId: string;
  app: string;
  wish: GrantWish;
  /** The pool lets a VM register again after its job: only what came to nothing counts against it. */
  mayReuse?: boolean;
  /** Who named no request of its own gets another grant under the same name when the one before is over. */
  mayRenew?: boolean;
}

/** What the runner shall be. */
export interface GrantWish {
  runnerUrl: string;
  runnerGroup: string;
  labels: string[];
  registration: "jit" | "token";
}

/** Encrypts what rests in the table; `about` binds it to its row. */
export interface Sealer {
  seal(text: string, about: string): string;
  open(sealed: string, about: string): string;
}

export interface LineSettings {
  store: Store;
  sealer: Sealer;
  /** The pace of an App over all replicas: milliseconds until the turn of one with so many before it. */
  paceOf(app: string): Promise<(ahead: number) => number>;
  /** There is a new wish. */
  onWish(app: string): void;
}

export const keepMs = 5 * 60_000;
export const grantsMax = 3;

export function createGrantLine({ store, sealer, paceOf, onWish }: LineSettings): GrantLine {
  const waiters = createLineWaiters((ids) => store.transact((tx) => settledOf(tx, ids)));
  const view = createLineView({ store, paceOf });

  return {
    async take(ask, holdMs) {
      const untilMs = performance.now() + holdMs;
      for (;;) {
        const { row, isNew } = await store.transact((tx) => findOrWish(tx, ask));
        if (isNew) onWish(ask.app);
        if (row.state === "made" || row.state === "failed" || row.state === "void" || row.state === "used")
          return opened(row, sealer);
        const leftMs = untilMs - performance.now();
        if (leftMs <= 0) throw await comeBack(row);
        await waiters.wait(row, leftMs);
      }
    },
    wake: (vmId) => waiters.wake(vmId),
  };

  async function comeBack(row: GrantRow): Promise<MigError> {
    // Not the `retry_after_ms` of the last try: that was counted from then, and has passed in part or in whole.
    const retryAfterMs = Math.ceil(Math.max(1_000, await view.turnInMs(row)));
    const why = readText(row.problem ?? {}, "message");
    const message = `the registration waits for its turn at GitHub, about ${Math.ceil(retryAfterMs / 1000)} s${why === undefined ? "" : ` (${why})`}`;
    return new MigError("github_rate_limited", message, { retryAfterMs });
  }
}

async function findOrWish(tx: Tx, ask: GrantAsk): Promise<{ row: GrantRow; isNew: boolean }> {
  const found = await find(tx, ask);
  if (found !== undefined && !(ask.mayRenew === true && isOver(found))) return { row: found, isNew: false };
  if (found !== undefined) await putAside(tx, found);
  const { rows } = await sql<{ made: number }>`select count(*)::float8 as made from grants
    where vm_id = ${ask.vmId} and incarnation = ${ask.incarnation}
      and (state <> 'used' or not ${ask.mayReuse === true})`.execute(tx);
  if ((rows[0]?.made ?? 0) >= grantsMax)
    throw new MigError(
      "refused",
      `${ask.vmId} has had ${grantsMax} registrations in this life; restart the VM, and see why they failed`,
    );
  const nowMs = await clockOf(tx);
  const row: GrantRow = {
    id: uuid7(nowMs),
    vmId: ask.vmId,
    incarnation: ask.incarnation,
    requestId: ask.requestId,
    poolId: ask.poolId,
    orgId: ask.orgId,
    app: ask.app,
    wish: { ...ask.wish },
    state: "wanted",
    tries: 0,
    runnerName: null,
    runnerId: null,
    sealed: null,
    problem: null,
    wantedAtMs: nowMs,
    notBeforeMs: nowMs,
    claimedUntilMs: null,
    madeAtMs: null,
    expiresAtMs: null,
    settledAtMs: null,
    alertedAtMs: null,
    removedAtMs: null,
  };
  const { numAffectedRows = 0n } =
    await sql`${insertRows(grantsTable, [row])} on conflict do nothing`.execute(tx);
  if (numAffectedRows > 0n) return { row, isNew: true };
  // Somebody was faster: with the same request, or with another one.
  const winner = await find(tx, ask);
  if (winner !== undefined) return { row: winner, isNew: false };
  throw new MigError(
    "conflict",
    `${ask.vmId} has a grant for another request already; a VM registers one runner at a time`,
    {
      retryAfterMs: 5_000,
    },
  );
}

async function find(tx: Tx, { vmId, incarnation, requestId }: GrantAsk): Promise<GrantRow | undefined> {
  const { rows } = await sql<GrantRow>`select ${columnList(grantsTable)} from grants
    where vm_id = ${vmId} and incarnation = ${incarnation} and request_id = ${requestId}`.execute(tx);
  return rows[0];
}

const isOver = ({ state, sealed }: GrantRow): boolean =>
  state === "used" || state === "void" || state === "failed" || (state === "made" && sealed === null);

/** Keeps the row for the record and frees its name. */
async function putAside(tx: Tx, { id }: GrantRow): Promise<void> {
  await sql`update grants set request_id = request_id || ' ' || id,
    state = case when state = 'made' then 'void' else state end where id = ${id}`.execute(tx);
}

async function clockOf(tx: Tx): Promise<number> {
  const { rows } = await sql<{
    at: number;
  }>`select round(extract(epoch from clock_timestamp()) * 1000)::float8 as at`.execute(tx);
  return rows[0]?.at ?? Date.now();
}

async function settledOf(tx: Tx, ids: readonly string[]): Promise<string[]> {
  const { rows } = await sql<{
    id: string;
  }>`select id from grants where id = any(${ids}::text[]) and state not in ('wanted', 'making')`.execute(tx);
  return rows.map(({ id }) => id);
}

function opened(row: GrantRow, sealer: Sealer): Grant {
  const { wish, problem, sealed } = row;
  if (row.state === "failed") {
    const code = readText(problem ?? {}, "code") ?? "";
    const known = Object.hasOwn(errorCodes, code) ? (code as ErrorCode) : "github_unavailable";
    throw new MigError(known, readText(problem ?? {}, "message") ?? "GitHub gave no grant");
  }
  if (sealed === null)
    throw new MigError(
      "refused",
      `the grant for this request is ${row.state === "made" ? "too old to be given again" : row.state}`,
    );
  const secret = JSON.parse(sealer.open(sealed, aboutOf(row))) as JsonObject;
  const jitConfig = readText(secret, "jit_config");
  const registrationToken = readText(secret, "registration_token");
  return {
    ...(jitConfig === undefined ? {} : { jitConfig }),
    ...(registrationToken === undefined ? {} : { registrationToken }),
    ...(row.runnerName === null ? {} : { runnerName: row.runnerName }),
    expiresAtMs: row.expiresAtMs ?? 0,
    runnerUrl: readText(wish, "runnerUrl") ?? "",
    runnerGroup: readText(wish, "runnerGroup") ?? "",
    labels: readTexts(wish, "labels") ?? [],
  };
}

/** A sealed grant opens for its own row only. */
export const aboutOf = ({ id, vmId, incarnation }: Pick<GrantRow, "id" | "vmId" | "incarnation">): string =>
  JSON.stringify(["mig/v1", "grants", id, vmId, incarnation]);
