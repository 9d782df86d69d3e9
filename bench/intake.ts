import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { VmEvent } from "@mig/protocol";
import { sql } from "kysely";
import { openStore, type Store } from "../apps/controller/src/store/open-store.ts";
import { type EventRow, eventsTable } from "../apps/controller/src/store/rows.ts";
import { insertRows } from "../apps/controller/src/store/table.ts";
import { openTestDesk } from "../apps/controller/tests/open-test-desk.ts";

/**
 * How fast events are taken in, beside a bare floor from the same run on the same database: the same rows inserted
 * in batches of the same size, without anybody asking whether they may be.
 *
 *   node --conditions=mig-source bench/intake.ts            on PGlite
 *   DATABASE_URL=postgres://… node --conditions=mig-source bench/intake.ts
 */
const vms = 200;
const eventsEach = 100;
const batch = 50;

const dataDir = await mkdtemp(join(tmpdir(), "mig-bench-"));
const databaseUrl = process.env["DATABASE_URL"];
const store = await openStore(databaseUrl === undefined ? { dataDir } : { dataDir, databaseUrl });
try {
  const floor = await measure(() => insertBare(store));
  const open = openTestDesk(store);
  const ours = await measure(() =>
    Promise.all(
      Array.from({ length: vms }, async (_, v) => {
        for (let from = 1; from <= eventsEach; from += batch) {
          await open.desk.recordEvents(`bench-${v}`, makeEvents(v, from));
        }
      }),
    ),
  );
  const beats = await measure(async () => {
    for (let n = 0; n < 100; n += 1) {
      for (let v = 0; v < vms; v += 1) {
        await open.desk.beat(`bench-${v}`, {
          vmId: `bench-${v}`,
          poolId: "p",
          incarnation: "b",
          sentAtMs: n,
          migletState: "idle",
        });
      }
    }
  });
  await open[Symbol.asyncDispose]();
  const total = vms * eventsEach;
  console.log(`${store.kind}, ${vms} VMs, ${total} events in batches of ${batch}`);
  report("bare batched INSERT (floor)", total, floor);
  report("recordEvents: judged, ordered, flows run, once", total, ours);
  console.log(`ratio to the floor: ${(ours / floor).toFixed(2)}`);
  report("heartbeats answered", vms * 100, beats);
} finally {
  await store[Symbol.asyncDispose]();
  await rm(dataDir, { recursive: true, force: true });
}

function makeEvents(vm: number, from: number): VmEvent[] {
  return Array.from({ length: batch }, (_, i) => ({
    type: "job_heartbeat",
    vmId: `bench-${vm}`,
    poolId: "p",
    occurredAtMs: 1_790_000_000_000,
    eventId: `e-${vm}-${from + i}`,
    seq: from + i,
    incarnation: "b",
    data: { job_id: "build", run_id: "1", note: "x".repeat(200) },
  }));
}

async function insertBare(on: Store): Promise<void> {
  for (let v = 0; v < vms; v += 1) {
    for (let from = 1; from <= eventsEach; from += batch) {
      const rows: EventRow[] = makeEvents(v, from).map((event) => ({
        vmId: `bare-${v}`,
        poolId: "p",
        orgId: "o",
        incarnation: "b",
        seq: event.seq ?? 0,
        eventId: event.eventId ?? "",
        type: event.type,
        occurredAtMs: event.occurredAtMs,
        receivedAtMs: event.occurredAtMs,
        payload: event.data,
        refused: null,
      }));
      await on.transact((tx) => insertRows(eventsTable, rows).execute(tx));
    }
  }
  await on.transact((tx) => sql`delete from events where vm_id like 'bare-%'`.execute(tx));
}

async function measure(work: () => Promise<unknown>): Promise<number> {
  const startMs = performance.now();
  await work();
  return performance.now() - startMs;
}

function report(what: string, count: number, ms: number): void {
  console.log(
    `${what.padEnd(48)} ${Math.round(count / (ms / 1000))
      .toLocaleString("en")
      .padStart(10)} /s`,
  );
}
