import { createHash } from "node:crypto";
import { MigError } from "@mig/lifecycle";
import type { JsonObject } from "@mig/protocol";
import { sql } from "kysely";
import type { Tx } from "../store/open-store.ts";
import { toJsonParameter } from "../store/table.ts";

/** An `Idempotency-Key` belongs to who sent it: two callers that choose the same word do not meet. */
export interface OnceKey {
  readonly caller: string;
  readonly key: string;
  /** Digest of the whole request. */
  readonly fingerprint: string;
}

const tidiedAtOnce = 100;

export function fingerprintOf(...parts: readonly unknown[]): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex");
}

/**
 * Does `work` once in the life of the key, in the transaction that keeps the answer: either both last or neither. A
 * second request waits at the insert until the first has ended, and gets the first one's answer.
 */
export async function once(tx: Tx, once: OnceKey, work: () => Promise<JsonObject>): Promise<JsonObject> {
  const { caller, key, fingerprint } = once;
  await sql`delete from idempotency_keys where (caller, key) in (select caller, key from idempotency_keys
    where expires_at < clock_timestamp() order by expires_at limit ${tidiedAtOnce} for update skip locked)`.execute(
    tx,
  );
  // A key whose day is over is as new, also when the lot above did not reach it.
  const taken = await sql`insert into idempotency_keys (caller, key, fingerprint, expires_at)
    values (${caller}, ${key}, ${fingerprint}, clock_timestamp() + interval '24 hours')
    on conflict (caller, key) do update set fingerprint = excluded.fingerprint, expires_at = excluded.expires_at
      where idempotency_keys.expires_at < clock_timestamp()
    returning key`.execute(tx);
  if (taken.rows.length > 0) {
    const answer = await work();
    await sql`update idempotency_keys set answer = ${toJsonParameter(answer)}::jsonb
      where caller = ${caller} and key = ${key}`.execute(tx);
    return answer;
  }
  const { rows } = await sql<{ fingerprint: string; answer: JsonObject }>`select fingerprint, answer
    from idempotency_keys where caller = ${caller} and key = ${key}`.execute(tx);
  const before = rows[0];
  if (before === undefined)
    throw new MigError("conflict", "the Idempotency-Key ran out just now; send again");
  if (before.fingerprint !== fingerprint)
    throw new MigError("refused", "this Idempotency-Key was used for another request; take a new one");
  return before.answer;
}
