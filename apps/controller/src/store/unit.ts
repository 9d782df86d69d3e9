import { isFinished } from "@mig/lifecycle";
import { sql } from "kysely";
import { type LoadedRows, loadRows, type UnitScope } from "./load-rows.ts";
import type { Store, TransactOptions, Tx } from "./open-store.ts";
import {
  type CommandRow,
  commandsTable,
  type EventRow,
  eventsTable,
  type HeartbeatRow,
  heartbeatsTable,
  type IncarnationRow,
  incarnationsTable,
  type JobRow,
  jobsTable,
  type VmRow,
  vmsTable,
} from "./rows.ts";
import { later } from "./server-driver.ts";
import { insertRows, type Table, toJsonParameter, updateRows } from "./table.ts";
import { type Change, whomToWake } from "./whom-to-wake.ts";

/**
 * A unit of work on some VMs: their rows are locked and loaded, plain code changes the drafts, and everything that
 * changed is written at the end in a handful of bulk statements. Decisions therefore need no I/O and can be told
 * (and simulated) as pure functions; five hundred events cost the same number of statements as one.
 *
 * Rows are locked in the order of their ids, so units cannot deadlock each other.
 */
export class Unit {
  /** The database's clock when the unit began. */
  readonly nowMs: number;
  readonly events: EventRow[] = [];
  readonly heartbeats: HeartbeatRow[] = [];
  readonly #grantEnds: GrantEnd[] = [];
  readonly #vms = new Map<string, VmRow>();
  readonly #commands: CommandRow[] = [];
  readonly #jobs: JobRow[] = [];
  readonly #incarnations = new Map<string, IncarnationRow>();
  readonly #asLoaded = new Map<object, string>();
  readonly #afterCommit: (() => void)[] = [];

  constructor(nowMs: number) {
    this.nowMs = nowMs;
  }

  vm(vmId: string): VmRow | undefined {
    return this.#vms.get(vmId);
  }

  addVm(vm: VmRow): VmRow {
    this.#vms.set(vm.vmId, vm);
    return vm;
  }

  /** The VM's commands that are not finished, oldest first. */
  openCommands(vmId: string): CommandRow[] {
    return this.#commands.filter((command) => command.vmId === vmId && !isFinished(command.state));
  }

  command(id: string): CommandRow | undefined {
    return this.#commands.find((command) => command.id === id);
  }

  addCommand(command: CommandRow): CommandRow {
    this.#commands.push(command);
    return command;
  }

  openJob(vmId: string): JobRow | undefined {
    return this.#jobs.findLast((job) => job.vmId === vmId && job.completedAtMs === null);
  }

  /** A job of this incarnation whose end nobody could tell: later evidence may. */
  unsettledJob(vmId: string, incarnation: string): JobRow | undefined {
    return this.#jobs.findLast(
      (job) => job.vmId === vmId && job.incarnation === incarnation && job.result === "unknown",
    );
  }

  addJob(job: JobRow): JobRow {
    this.#jobs.push(job);
    return job;
  }

  incarnation(vmId: string, incarnation: string): IncarnationRow | undefined {
    return this.#incarnations.get(`${vmId} ${incarnation}`);
  }

  addIncarnation(row: IncarnationRow): IncarnationRow {
    this.#incarnations.set(`${row.vmId} ${row.incarnation}`, row);
    return row;
  }

  /** What has become of the VM's live grant; nothing happens when it has none. */
  settleGrant(end: GrantEnd): void {
    this.#grantEnds.push(end);
  }

  /** Runs after the commit and not at all when there is none. Must not throw. */
  afterCommit(run: () => void): void {
    this.#afterCommit.push(run);
  }

  /** Takes in rows as the database has them; only what differs from this is written back. */
  loaded(rows: LoadedRows): this {
    for (const vm of rows.vms) this.addVm(vm);
    this.#commands.push(...rows.commands);
    this.#jobs.push(...rows.jobs);
    for (const row of rows.incarnations) this.addIncarnation(row);
    for (const row of [...rows.vms, ...rows.commands, ...rows.jobs, ...rows.incarnations]) {
      this.#asLoaded.set(row, JSON.stringify(row));
    }
    return this;
  }

  async save(tx: Tx): Promise<void> {
    for (const vm of this.#vms.values()) if (this.#isChanged(vm)) vm.updatedAtMs = this.nowMs;
    await this.#write(tx, vmsTable, "vmId", [...this.#vms.values()]);
    await this.#writeIncarnations(tx);
    await this.#write(tx, commandsTable, "id", this.#commands);
    await this.#write(tx, jobsTable, "id", this.#jobs);
    if (this.events.length > 0) await later(tx, insertRows(eventsTable, this.events));
    this.#voidGrantsOfFailures();
    if (this.#grantEnds.length > 0) await settleGrants(tx, this.#grantEnds);
    if (this.heartbeats.length > 0) await later(tx, insertRows(heartbeatsTable, this.heartbeats));
  }

  /** A register_runner that has ended without a runner needs its grant no more; the next one gets another. */
  #voidGrantsOfFailures(): void {
    for (const command of this.#commands) {
      const { vmId, incarnation, id: requestId } = command;
      if (command.type !== "register_runner" || !isFinished(command.state) || command.state === "succeeded")
        continue;
      if (incarnation !== null && this.#isChanged(command))
        this.settleGrant({ vmId, incarnation, requestId, to: "void" });
    }
  }

  /** Whose session should look after the commit. */
  wakes(): { own: string[]; others: string[] } {
    const change = <R extends object>(now: R): Change<R> => {
      const loaded = this.#asLoaded.get(now);
      return { now, before: loaded === undefined ? undefined : (JSON.parse(loaded) as R) };
    };
    return whomToWake(this.#commands.map(change), [...this.#vms.values()].map(change), this.nowMs);
  }

  committed(): void {
    for (const run of this.#afterCommit) run();
  }

  #isChanged(row: object): boolean {
    return this.#asLoaded.get(row) !== JSON.stringify(row);
  }

  async #write<R extends object>(tx: Tx, table: Table<R>, key: keyof R & string, rows: R[]): Promise<void> {
    const changed = rows.filter((row) => this.#isChanged(row));
    const old = changed.filter((row) => this.#asLoaded.has(row));
    const fresh = changed.filter((row) => !this.#asLoaded.has(row));
    if (old.length > 0) await later(tx, updateRows(table, key, old));
    if (fresh.length > 0) await later(tx, insertRows(table, fresh));
  }

  async #writeIncarnations(tx: Tx): Promise<void> {
    const changed = [...this.#incarnations.values()].filter((row) => this.#isChanged(row));
    if (changed.length === 0) return;
    await later(
      tx,
      sql`${insertRows(incarnationsTable, changed)}
      on conflict (vm_id, incarnation) do update set acked_seq = excluded.acked_seq, lived = excluded.lived`,
    );
  }
}

/**
 * `used`: the runner has registered. `void`: it never will, and its registration is to be removed. `requestId`: only
 * the grant of this request.
 */
export interface GrantEnd {
  vmId: string;
  incarnation: string;
  requestId?: string;
  to: "used" | "void";
}

/** The secret goes with the state: who has used a grant, or lost it, may not have it again. */
async function settleGrants(tx: Tx, ends: readonly GrantEnd[]): Promise<void> {
  await later(
    tx,
    sql`update grants g set state = e."to", sealed = null, settled_at = clock_timestamp()
    from jsonb_to_recordset(${toJsonParameter(ends)}::jsonb) as e("vmId" text, incarnation text, "requestId" text, "to" text)
    where g.vm_id = e."vmId" and g.incarnation = e.incarnation and (e."requestId" is null or g.request_id = e."requestId")
      and g.state in ('wanted', 'making', 'made')`,
  );
}

/**
 * Loads and locks, lets `decide` change the drafts, saves, commits, and then tells the world. A VM that does not
 * exist yet is not in the unit; `decide` adds it.
 */
export async function withUnit<T>(
  store: Store,
  scope: UnitScope,
  decide: (unit: Unit, tx: Tx) => T | Promise<T>,
  options?: TransactOptions,
): Promise<T> {
  const { unit, result, wakes } = await store.transact(async (tx) => {
    const { nowMs, ...rows } = await loadRows(tx, scope);
    const unit = new Unit(nowMs).loaded(rows);
    const result = await decide(unit, tx);
    const wakes = unit.wakes();
    await unit.save(tx);
    await store.wakes.announce(tx, wakes.others);
    return { unit, result, wakes };
  }, options);
  unit.committed();
  store.wakes.tell(wakes.own);
  return result;
}
