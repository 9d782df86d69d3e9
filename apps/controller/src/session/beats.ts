import { isTerminal, MigError } from "@mig/lifecycle";
import { type Heartbeat, type HeartbeatReply, heartbeatToJson } from "@mig/protocol";
import { recognize } from "../boot/begin-life.ts";
import { applyBeat } from "../heartbeat/apply-beat.ts";
import { settleRegistration } from "../runner/confirm-runner.ts";
import { wantRunner } from "../runner/want-runner.ts";
import type { VmRow } from "../store/rows.ts";
import { type Unit, withUnit } from "../store/unit.ts";
import { namesIn, type Parts } from "./parts.ts";

/**
 * Heartbeats. Each is answered from memory at once and changes one entry of a map; all that came in are written
 * together each sweep, and at once when one tells something new. With the database away they are still answered,
 * the newest of each VM is kept, and nobody is called silent (reliability-security §2.3, §2.8).
 *
 * A beat waits for its turn, an event does not. So what a beat said of the VM's state is dropped when the VM has said
 * something else since: `idle` must not be written over the job that has started meanwhile.
 */
interface Entry {
  beat: Heartbeat | undefined;
  beatAtMs: number;
  /** Monotonic, like `beatAtMs`: any message, and the last one that was no beat. */
  seenAtMs: number;
  spokeAtMs: number;
  told: string;
  sampledAtMs: number;
  /** The incarnation that was written off; its agent is told to end. */
  writtenOff: string | undefined;
}

interface Taken {
  vmId: string;
  entry: Entry;
  beat: Heartbeat;
}

const entriesMax = 200_000;
const vmsPerCommit = 500;
/** One heartbeat a minute of each VM goes into the history, and each one that tells something new. */
const sampleEveryMs = 60_000;

export class Beats {
  readonly #parts: Parts;
  readonly #entries = new Map<string, Entry>();
  #flushing: Promise<void> | undefined;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  take(vmId: string, beat: Heartbeat): HeartbeatReply {
    const entry = this.#entryOf(vmId);
    entry.seenAtMs = performance.now();
    if (entry.writtenOff !== undefined && entry.writtenOff === beat.incarnation) throw writtenOff(vmId);
    entry.beat = beat;
    entry.beatAtMs = entry.seenAtMs;
    if (entry.told !== tell(beat)) void this.flush();
    // Spread by a tenth, so that agents that started together do not beat together for ever.
    const nextIntervalMs = Math.round(this.#parts.pace.heartbeatIntervalMs * (0.9 + 0.2 * Math.random()));
    return { nextIntervalMs, serverTimeMs: Date.now() };
  }

  /** Any other message of the VM. */
  hear(vmId: string): void {
    const entry = this.#entryOf(vmId);
    entry.seenAtMs = performance.now();
    entry.spokeAtMs = entry.seenAtMs;
  }

  /** It lives, and what it said is not known: a beat that waits still tells its state. */
  see(vmId: string): void {
    this.#entryOf(vmId).seenAtMs = performance.now();
  }

  /** How long this replica has not heard from the VM; Infinity if it never did. */
  silentMs(vmId: string): number {
    const entry = this.#entries.get(vmId);
    return entry === undefined ? Number.POSITIVE_INFINITY : performance.now() - entry.seenAtMs;
  }

  /** Lets go of VMs that have ended or moved to another replica; not of what could not be written yet. */
  forgetSilent(silentMs: number): void {
    const beforeMs = performance.now() - silentMs;
    for (const [vmId, entry] of this.#entries) {
      if (entry.beat === undefined && entry.seenAtMs < beforeMs) this.#entries.delete(vmId);
    }
  }

  /** Writes what has come in. A second call while one runs joins it or follows it. */
  flush(): Promise<void> {
    this.#flushing ??= this.#flushAll().finally(() => {
      this.#flushing = undefined;
    });
    return this.#flushing;
  }

  async #flushAll(): Promise<void> {
    // A turn of the event loop, so that beats which arrive together are written together.
    await new Promise((resolve) => setImmediate(resolve));
    for (;;) {
      const taken = this.#takeDue();
      if (taken.length === 0) return;
      if (!(await this.#commit(taken))) return;
    }
  }

  #takeDue(): Taken[] {
    const taken: Taken[] = [];
    for (const [vmId, entry] of this.#entries) {
      if (entry.beat === undefined) continue;
      taken.push({ vmId, entry, beat: entry.beat });
      entry.beat = undefined;
      if (taken.length === vmsPerCommit) break;
    }
    return taken;
  }

  /** False when the database cannot take any now. */
  async #commit(taken: Taken[]): Promise<boolean> {
    const scope = {
      vmIds: taken.map(({ vmId }) => vmId),
      incarnations: taken.flatMap(({ beat }) => beat.incarnation ?? []),
    };
    try {
      await withUnit(this.#parts.store, scope, (unit) => {
        for (const { vmId, entry, beat } of taken) this.#write(unit, vmId, entry, beat);
      });
      return true;
    } catch (error) {
      const isTheirs = error instanceof MigError && error.code !== "storage_unavailable";
      if (isTheirs && taken.length > 1) {
        // One that cannot be written must not hold up the others.
        for (const one of taken) await this.#commit([one]);
        return true;
      }
      if (isTheirs) {
        this.#parts.log.error(
          { error, vm_id: taken[0]?.vmId },
          "a heartbeat cannot be written and is dropped",
        );
        return true;
      }
      for (const { entry, beat } of taken) entry.beat ??= beat;
      this.#parts.log.warn(
        { error, vms: taken.length },
        "heartbeats could not be written; they stay in memory",
      );
      return false;
    }
  }

  #write(unit: Unit, vmId: string, entry: Entry, whole: Heartbeat): void {
    const beat = entry.spokeAtMs > entry.beatAtMs ? withoutState(whole) : whole;
    const { context, current } = recognize(
      unit,
      {
        vmId,
        ...namesIn(this.#parts, beat),
        incarnation: beat.incarnation,
        restarted: (vm) => beginsAgain(vm, beat.migletState),
      },
      this.#parts.rules,
      this.#parts.log,
    );
    if (!current) return;
    if (isTerminal(context.vm.state)) {
      entry.writtenOff = beat.incarnation;
      return;
    }
    applyBeat(context, beat);
    if (context.vm.state === "idle") settleRegistration(context);
    wantRunner(context);
    const news = tell(whole);
    const isSample = entry.told !== news || unit.nowMs - entry.sampledAtMs >= sampleEveryMs;
    if (isSample) unit.heartbeats.push({ vmId, atMs: unit.nowMs, body: heartbeatToJson(whole) });
    unit.afterCommit(() => {
      if (isSample) entry.sampledAtMs = unit.nowMs;
      entry.told = news;
    });
  }

  #entryOf(vmId: string): Entry {
    const known = this.#entries.get(vmId);
    if (known !== undefined) return known;
    if (this.#entries.size >= entriesMax) {
      throw new MigError("overloaded", `this replica already hears from ${entriesMax} VMs`, {
        retryAfterMs: 5_000,
      });
    }
    const entry: Entry = {
      beat: undefined,
      beatAtMs: 0,
      seenAtMs: 0,
      spokeAtMs: 0,
      told: "",
      sampledAtMs: 0,
      writtenOff: undefined,
    };
    this.#entries.set(vmId, entry);
    return entry;
  }
}

function writtenOff(vmId: string): MigError {
  return new MigError(
    "incarnation_lost",
    `${vmId} was written off after a long silence; finish the job and shut down`,
  );
}

function withoutState(beat: Heartbeat): Heartbeat {
  const { migletState: _m, runner: _r, currentJob: _j, ...rest } = beat;
  return rest;
}

/** What makes a heartbeat news: everything but the numbers. */
function tell(beat: Heartbeat): string {
  return `${beat.incarnation} ${beat.migletState} ${beat.runner?.state} ${beat.currentJob?.jobId}`;
}

/**
 * An agent from before MIG goes connecting, ready, registering_runner, idle and never back within one process. So
 * an early word after a later one comes from a process that has started again.
 */
function beginsAgain(vm: VmRow, migletState: string | undefined): boolean {
  const before = vm.migletState;
  const isLate = before === "idle" || before === "registering_runner" || before === "error";
  if (migletState === "connecting") return isLate || before === "ready";
  return isLate && (migletState === "ready" || migletState === "waiting_for_controller");
}
