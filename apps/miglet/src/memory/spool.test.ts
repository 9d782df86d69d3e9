import { appendFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog } from "@mig/kit";
import { firstSeqOf, type VmEvent } from "@mig/protocol";
import fc from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type NewEvent, openSpool, type Spool, type SpoolSettings } from "./spool.ts";

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "mig-spool-"));
});
afterEach(() => rm(root, { recursive: true, force: true }));

const open = (settings: Partial<SpoolSettings> = {}, directory = join(root, "spool")): Promise<Spool> =>
  openSpool({ directory, log: silentLog, groupSyncMs: 1, diskRetryMs: 10_000, ...settings });

const event = (type: string, n: number, pad = 0): NewEvent => ({
  type,
  vmId: "vm-1",
  poolId: "pool-1",
  eventId: `id-${n}`,
  incarnation: "boot-install",
  occurredAtMs: n,
  data: { n, note: "ü\n".repeat(pad) },
});

/** Every number from the first to the last pending one is accounted for exactly once. */
function expectUnbroken(events: readonly VmEvent[], from: number, to: number): void {
  let next = from;
  for (const one of events) {
    expect(firstSeqOf(one)).toBeLessThanOrEqual(next);
    expect(one.seq).toBeGreaterThanOrEqual(next);
    next = (one.seq ?? 0) + 1;
  }
  expect(next).toBe(to + 1);
}

const readAll = (spool: Spool): Promise<VmEvent[]> => spool.read(100_000, Number.MAX_SAFE_INTEGER);

test("numbers go on after a restart, also when everything was acknowledged", async () => {
  const first = await open();
  for (let n = 1; n <= 3; n += 1) await first.append(event("job_heartbeat", n));
  await first.acknowledge(3);
  await first.close();
  const second = await open();
  expect(second.pending()).toBe(0);
  expect((await second.append(event("error", 4))).seq).toBe(4);
  await second.close();
});

test("a killed process loses nothing that was appended, and an unfinished line is forgotten", async () => {
  const first = await open();
  for (let n = 1; n <= 3; n += 1) await first.append(event("job_heartbeat", n));
  const [name = ""] = await readdir(join(root, "spool"));
  await appendFile(join(root, "spool", name), '0badcafe {"type":"job_');
  const second = await open();
  expect((await readAll(second)).map((one) => one.data["n"])).toEqual([1, 2, 3]);
  expect((await second.append(event("job_started", 4))).seq).toBe(4);
  await Promise.all([first.close(), second.close()]);
});

test("random appends, acknowledgements, crashes at any byte and bit flips leave every number accounted for", async () => {
  const step = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        do: fc.constant("append" as const),
        type: fc.constantFrom("job_heartbeat", "job_started", "error"),
        pad: fc.nat(40),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        do: fc.constant("ack" as const),
        share: fc.double({ min: 0, max: 1, noNaN: true }),
      }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("restart" as const) }) },
    {
      weight: 1,
      arbitrary: fc.record({
        do: fc.constant("flip" as const),
        at: fc.double({ min: 0, max: 0.999, noNaN: true }),
      }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("tear" as const), bytes: fc.nat(60) }) },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
      const directory = await mkdtemp(join(root, "run-"));
      const settings = { segmentBytes: 600 };
      let spool = await open(settings, directory);
      const given = new Map<number, number>();
      let acked = 0;
      let highest = 0;
      let n = 0;
      for (const one of steps) {
        if (one.do === "append") {
          n += 1;
          const { seq } = await spool.append(event(one.type, n, one.pad));
          expect(seq).toBeGreaterThan(highest);
          highest = seq;
          given.set(seq, n);
        } else if (one.do === "ack") {
          acked = Math.max(acked, acked + Math.floor((highest - acked) * one.share));
          await spool.acknowledge(acked);
        } else {
          await spool.close();
          const newest = (await readdir(directory)).sort().at(-1);
          if (newest !== undefined && one.do === "tear")
            await appendFile(join(directory, newest), "x".repeat(one.bytes));
          if (newest !== undefined && one.do === "flip") {
            const path = join(directory, newest);
            const content = await readFile(path);
            const at = Math.floor(content.length * one.at);
            // A newline that appears or goes is damage of another kind: it moves the end of the last line.
            if (at < content.length && content[at] !== 0x0a) content[at] = (content[at] ?? 0) ^ 0x40;
            await writeFile(path, content);
          }
          spool = await open(settings, directory);
        }
      }
      const last = await spool.append(event("vm_terminated", 0));
      const events = await readAll(spool);
      expectUnbroken(events, Math.min(acked + 1, firstSeqOf(events[0] ?? last) ?? 1), last.seq);
      for (const one of events)
        if (one.type !== "events_dropped" && one.seq !== last.seq)
          expect(one.data["n"]).toBe(given.get(one.seq ?? 0));
      await spool.close();
    }),
    { numRuns: 60 },
  );
}, 20_000);

test("a damaged record becomes events_dropped in its place and is reported", async () => {
  const first = await open();
  for (let n = 1; n <= 5; n += 1) await first.append(event("job_heartbeat", n));
  await first.close();
  const path = join(root, "spool", (await readdir(join(root, "spool")))[0] ?? "");
  const text = await readFile(path, "utf8");
  await writeFile(path, text.replace('"n":3', '"n":7'));
  const second = await open();
  const types = (await readAll(second)).map((one) => `${one.seq} ${one.type}`);
  expect(types).toEqual([
    "1 job_heartbeat",
    "2 job_heartbeat",
    "3 events_dropped",
    "4 job_heartbeat",
    "5 job_heartbeat",
  ]);
  expect(second.takeProblems()).toMatchObject([{ code: "spool_damaged", records: 1 }]);
  await second.close();
});

test("a full spool drops heartbeats of jobs first, then diagnostics, and keeps what is critical", async () => {
  const spool = await open({ eventsMax: 100, segmentBytes: 2_000 });
  await spool.append(event("job_started", 0));
  for (let n = 1; n <= 300; n += 1) await spool.append(event(n % 10 === 0 ? "error" : "job_heartbeat", n));
  await spool.append(event("job_completed", 301));
  expect(spool.pending()).toBeLessThanOrEqual(100);
  const events = await readAll(spool);
  expectUnbroken(events, 1, 302);
  const types = events.map((one) => one.type);
  expect(types[0]).toBe("job_started");
  expect(types.at(-1)).toBe("job_completed");
  expect(types).toContain("error");
  const counted = events
    .flatMap((one) => (one.type === "events_dropped" ? Object.values(Object(one.data["counts"])) : [1]))
    .reduce((sum: number, n) => sum + Number(n), 0);
  expect(counted).toBe(302);
  await spool.close();
});

test("a spool of nothing but critical events stays within its bounds and says what it lost", async () => {
  const spool = await open({ eventsMax: 50, segmentBytes: 1_000 });
  for (let n = 1; n <= 400; n += 1) await spool.append(event("job_completed", n));
  expect(spool.pending()).toBeLessThanOrEqual(50);
  const events = await readAll(spool);
  expectUnbroken(events, 1, 400);
  expect(events.at(-1)?.data["n"]).toBe(400);
  await spool.close();
});

test("when the disk refuses, events wait in bounded memory, in order, and reach the disk later", async () => {
  const directory = join(root, "spool");
  const spool = await open({ memoryBytesMax: 20_000, segmentBytes: 500 });
  await spool.append(event("job_started", 1));
  // The folder is gone and a file is in its place: every write that opens a file fails, also for root.
  await spool.acknowledge(1);
  await rm(directory, { recursive: true });
  await writeFile(directory, "");
  for (let n = 2; n <= 200; n += 1)
    await spool.append(event(n % 2 === 0 ? "job_heartbeat" : "job_completed", n));
  await spool.acknowledge(2);
  for (let n = 201; n <= 300; n += 1) await spool.append(event("job_heartbeat", n));
  expect(spool.degraded()).toBe(true);
  expectUnbroken(await readAll(spool), 3, 300);
  await rm(directory);
  await mkdir(directory);
  await spool.close();
  const again = await open();
  const kept = await readAll(again);
  expectUnbroken(kept, kept[0]?.seq ?? 0, 300);
  expect(kept.length).toBeGreaterThan(10);
  await again.close();
});
