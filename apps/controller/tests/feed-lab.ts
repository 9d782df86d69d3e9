import { silentLog, uuid7 } from "@mig/kit";
import { sql } from "kysely";
import { Feed } from "../src/feed/feed.ts";
import type { FollowEnd, Gap, Sink } from "../src/feed/follower.ts";
import { type FeedItem, feedKinds, type Wanted } from "../src/feed/item.ts";
import type { Place } from "../src/feed/place.ts";
import type { Store, Tx } from "../src/store/open-store.ts";
import { type EventRow, eventsTable, type VmRow, vmsTable } from "../src/store/rows.ts";
import { insertRows } from "../src/store/table.ts";

export const everything: Wanted = { kinds: new Set(feedKinds) };

export function vmRow(vmId: string, more: Partial<VmRow> = {}): VmRow {
  const nowMs = Date.now();
  return {
    ...{ vmId, poolId: "pool-a", orgId: "acme", incarnation: "i-1", life: 0, state: "idle" },
    ...{ reachability: "online", runnerState: "idle", migletState: null, currentJob: null, health: null },
    ...{ agentVersion: null, protocolVersion: 1, runnerName: null, registrations: 0, drained: null },
    ...{ problem: null, sessionEpoch: 0, sessionChannel: null, commandSeq: 0, lastHeartbeatMs: null },
    ...{ lastSeenMs: nowMs, createdAtMs: nowMs, updatedAtMs: nowMs },
    ...more,
  };
}

export function eventRow(vmId: string, seq: number, more: Partial<EventRow> = {}): EventRow {
  const nowMs = Date.now();
  return {
    ...{ vmId, poolId: "pool-a", orgId: "acme", incarnation: "i-1", seq, eventId: uuid7(), type: "test" },
    ...{ occurredAtMs: nowMs, receivedAtMs: nowMs, payload: {}, refused: null },
    ...more,
  };
}

export const addVms = (store: Store, vms: readonly VmRow[]) =>
  store.transact((tx) => insertRows(vmsTable, vms).execute(tx));
export const addEvents = (tx: Tx, events: readonly EventRow[]) => insertRows(eventsTable, events).execute(tx);
/** A change that the feed tells of, counted in the VM's row. */
export const nextLife = (tx: Tx, vmId: string) =>
  sql`update vms set life = life + 1 where vm_id = ${vmId}`.execute(tx);

export function openFeed(store: Store, end: AbortController): Feed {
  return new Feed({ store, log: silentLog, signal: end.signal, lookMs: 20 });
}

/** One who follows, goes away and comes back, and keeps all that it was told. */
export class Watcher {
  readonly items: FeedItem[] = [];
  readonly gaps: Gap[] = [];
  next: Place | undefined;
  /** Answers for its peer: whether there is room. */
  hasRoom: () => boolean = () => true;
  takes: () => Promise<boolean> = async () => true;
  #stop = new AbortController();
  #end: Promise<FollowEnd> | undefined;

  async open(feed: Feed, wanted: Wanted = everything): Promise<void> {
    this.#stop = new AbortController();
    await new Promise<void>((begun, failed) => {
      const sink: Sink = {
        begin: (next, gap) => {
          this.next = next;
          if (gap !== undefined) this.gaps.push(gap);
          begun();
        },
        reset: (next, gap) => {
          this.next = next;
          this.gaps.push(gap);
        },
        send: (item) => {
          if (!this.hasRoom()) return false;
          this.items.push(item);
          this.next = item.next;
          return true;
        },
        taken: () => this.takes(),
      };
      this.#end = feed.follow({ from: this.next, wanted, signal: this.#stop.signal }, sink).ended;
      this.#end.catch(failed);
    });
  }

  get ended(): Promise<FollowEnd> {
    return this.#end ?? Promise.reject(new Error("not open"));
  }

  /** Goes on another time where it saw the last item. */
  async close(): Promise<FollowEnd> {
    this.#stop.abort();
    return this.ended;
  }

  /** Of each VM, what it was told: the lives of changes, or the numbers of events. */
  told(kind: "vm" | "event"): Record<string, number[]> {
    const byVm: Record<string, number[]> = {};
    for (const item of this.items) {
      if (item.kind === "fleet" || item.kind !== kind) continue;
      const number = item.kind === "event" ? item.event.seq : item.body["life"];
      byVm[item.vmId] = [...(byVm[item.vmId] ?? []), Number(number)];
    }
    return byVm;
  }
}
