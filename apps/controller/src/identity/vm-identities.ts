import { type Log, pause } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import type { JsonObject } from "@mig/protocol";
import { sql } from "kysely";
import { recordAct } from "../audit/audit.ts";
import type { Act } from "../audit/chain.ts";
import type { Store, Tx } from "../store/open-store.ts";
import { columnList, insertRows, type Table, updateRows } from "../store/table.ts";

/** A VM as it proved itself. The key that it showed first is the only one that speaks for it. */
export interface VmIdentityRow {
  vmId: string;
  poolId: string;
  orgId: string;
  method: string;
  /** What proved it, once in the world: `gcp:project/instance`, `vm:id` for enrolment tokens. */
  instance: string;
  keyThumbprint: string;
  publicJwk: JsonObject;
  joinedBy: string;
  epoch: number;
  createdAtMs: number;
  changedAtMs: number;
  revokedAtMs: number | null;
}

export const identityTable: Table<VmIdentityRow> = {
  name: "vm_identities",
  columns: {
    vmId: "text",
    poolId: "text",
    orgId: "text",
    method: "text",
    instance: "text",
    keyThumbprint: "text",
    publicJwk: "json",
    joinedBy: "text",
    epoch: "int",
    createdAtMs: "time",
    changedAtMs: "time",
    revokedAtMs: "time",
  },
};

export async function findIdentity(
  tx: Tx,
  by: { vmId: string } | { instance: string },
  forUpdate = false,
): Promise<VmIdentityRow | undefined> {
  const where = "vmId" in by ? sql`vm_id = ${by.vmId}` : sql`instance = ${by.instance}`;
  const { rows } = await sql<VmIdentityRow>`select ${columnList(identityTable)} from vm_identities
    where ${where} ${forUpdate ? sql`for update` : sql``}`.execute(tx);
  return rows[0];
}

export async function insertIdentity(tx: Tx, row: VmIdentityRow): Promise<void> {
  await insertRows(identityTable, [row]).execute(tx);
}

export async function replaceIdentity(tx: Tx, row: VmIdentityRow): Promise<void> {
  await updateRows(identityTable, "vmId", [row]).execute(tx);
}

interface Standing {
  readonly epoch: number;
  readonly isRevoked: boolean;
  readonly keyThumbprint: string;
}

export interface VmIdentitiesSettings {
  readonly store: Store;
  readonly log: Log;
  readonly signal: AbortSignal;
  /** An identity is over, or another one: what speaks for the old one is cut. */
  readonly onEnded: (vmId: string) => void;
}

/** How old what a replica knows of an identity may be: twice this is within the two seconds of issue 5. */
const lookEachMs = 500;
/** A transaction may commit so long after the time that it wrote. */
const lateMs = 20_000;

/** All identities that stand, in memory; each half second what has changed. */
export class VmIdentities {
  readonly #settings: VmIdentitiesSettings;
  readonly #standing = new Map<string, Standing>();
  #seenMs = 0;
  #ended: Promise<void> | undefined;

  constructor(settings: VmIdentitiesSettings) {
    this.#settings = settings;
  }

  async start(): Promise<void> {
    await this.refresh();
    this.#ended = this.#watch();
  }

  async close(): Promise<void> {
    await this.#ended;
  }

  /** Whether a token of this epoch is good. One that is not known here yet was made on another replica. */
  async stands(vmId: string, epoch: number): Promise<boolean> {
    if ((this.#standing.get(vmId)?.epoch ?? 0) < epoch) await this.refresh();
    const found = this.#standing.get(vmId);
    return found !== undefined && !found.isRevoked && found.epoch === epoch;
  }

  async find(vmId: string): Promise<VmIdentityRow | undefined> {
    return this.#settings.store.transact((tx) => findIdentity(tx, { vmId }));
  }

  /** From now on no token of the VM is good; it may join again with a new enrolment token. */
  async revoke(vmId: string, act: Omit<Act, "object" | "result" | "orgId">): Promise<VmIdentityRow> {
    const row = await this.#settings.store.transact(async (tx) => {
      const found = await findIdentity(tx, { vmId }, true);
      if (found === undefined)
        throw new MigError("not_found", `${vmId} has no identity of its own to revoke`);
      await sql`update vm_identities set epoch = epoch + 1, revoked_at = clock_timestamp(),
        changed_at = clock_timestamp() where vm_id = ${vmId}`.execute(tx);
      await recordAct(tx, { ...act, orgId: found.orgId, object: `vm:${vmId}`, result: "done" });
      return { ...found, epoch: found.epoch + 1 };
    });
    await this.refresh();
    return row;
  }

  async refresh(): Promise<void> {
    const { rows, nowMs } = await this.#settings.store.transact(async (tx) => {
      const { rows: time } = await sql<{ nowMs: number }>`select
        round(extract(epoch from clock_timestamp()) * 1000)::float8 as "nowMs"`.execute(tx);
      const { rows } = await sql<VmIdentityRow>`select ${columnList(identityTable)} from vm_identities
        where changed_at > to_timestamp(${this.#seenMs - lateMs}::float8 / 1000.0)`.execute(tx);
      return { rows, nowMs: time[0]?.nowMs ?? 0 };
    });
    this.#seenMs = Math.max(this.#seenMs, nowMs);
    for (const { vmId, epoch, revokedAtMs, keyThumbprint } of rows) {
      const before = this.#standing.get(vmId);
      if (before !== undefined && before.epoch > epoch) continue;
      const isRevoked = revokedAtMs !== null;
      this.#standing.set(vmId, { epoch, isRevoked, keyThumbprint });
      const isOver = before !== undefined && !before.isRevoked && (isRevoked || before.epoch !== epoch);
      if (isOver) this.#settings.onEnded(vmId);
    }
  }

  async #watch(): Promise<void> {
    const { log, signal } = this.#settings;
    let isFailing = false;
    while (!signal.aborted) {
      await pause(lookEachMs, signal);
      if (signal.aborted) return;
      try {
        await this.refresh();
        isFailing = false;
      } catch (error) {
        if (!isFailing) log.warn({ error }, "identities cannot be read; what is known goes on being good");
        isFailing = true;
      }
    }
  }
}
