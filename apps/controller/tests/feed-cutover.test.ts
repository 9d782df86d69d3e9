import { pause, waitFor } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { forgetSome } from "../src/feed/forget.ts";
import { isBefore, readCursor, toCursor } from "../src/feed/place.ts";
import type { Store } from "../src/store/open-store.ts";
import { describeOnEngines, describeOnServer } from "./engines.ts";
import { addEvents, addVms, eventRow, nextLife, openFeed, vmRow, Watcher } from "./feed-lab.ts";

/** Backfill, cutover and stream: each change once and in its VM's order, however transactions and watchers come and go. */
const upTo = (n: number, from = 1): number[] => Array.from({ length: n }, (_, i) => from + i);

describeOnEngines("the feed", (engine) => {
  let stores: Store[];
  let drop: () => Promise<void>;
  const end = new AbortController();
  beforeAll(async () => {
    const database = await engine.create();
    stores = [await database.open()];
    if (database.url !== undefined) stores.push(await database.open());
    drop = database.drop;
  });
  afterAll(async () => {
    end.abort();
    for (const store of stores) await store[Symbol.asyncDispose]();
    await drop();
  });
  const first = (): Store => stores[0] as Store;

  test("writers commit in any order or not at all; watchers of every replica come, go and dawdle: nothing is left out or told twice", async () => {
    const vmIds = upTo(6).map((n) => `vm-${n}`);
    await addVms(
      first(),
      vmIds.map((vmId) => vmRow(vmId)),
    );
    const feeds = stores.map((store) => openFeed(store, end));
    const watchers = await Promise.all(
      [...feeds, ...feeds, ...feeds].map(async (feed) => {
        const watcher = new Watcher();
        await watcher.open(feed);
        return watcher;
      }),
    );
    const lives = Object.fromEntries(vmIds.map((vmId) => [vmId, 0]));
    const seqs = Object.fromEntries(vmIds.map((vmId) => [vmId, 0]));
    const undone = new MigError("conflict", "undone");

    /** Locks some VMs in the order of their ids, as units of work do, with pauses in which others overtake. */
    const write = async (store: Store): Promise<void> => {
      const mine = vmIds.filter(() => Math.random() < 0.4);
      const isUndone = Math.random() < 0.2;
      const told: string[] = [];
      const committed = await store
        .transact(async (tx) => {
          // Its xid may be older than that of a transaction whose lock it waits for.
          if (Math.random() < 0.5) await sql`select pg_current_xact_id()`.execute(tx);
          for (const vmId of mine) {
            await sql`select 1 from vms where vm_id = ${vmId} for update`.execute(tx);
            if (Math.random() < 0.5) await pause(Math.random() * 4);
          }
          for (const vmId of mine) {
            await nextLife(tx, vmId);
            const { rows } = await sql<{
              n: number;
            }>`select count(*)::int as n from events where vm_id = ${vmId}`.execute(tx);
            const from = (rows[0]?.n ?? 0) + 1;
            await addEvents(
              tx,
              upTo(Math.ceil(Math.random() * 3), from).map((seq) => {
                told.push(vmId);
                return eventRow(vmId, seq);
              }),
            );
          }
          if (isUndone) throw undone;
        })
        .then(
          () => true,
          (error: unknown) => {
            if (error !== undone) throw error;
            return false;
          },
        );
      if (!committed) return;
      for (const vmId of mine) lives[vmId] = (lives[vmId] ?? 0) + 1;
      for (const vmId of told) seqs[vmId] = (seqs[vmId] ?? 0) + 1;
    };

    let isWriting = true;
    // PGlite runs one transaction after the other: there it is the statements that are tested.
    const writes = first().kind === "pglite" ? 6 : 20;
    const writing = Promise.all(
      upTo(6).map(async (n) => {
        for (let i = 0; i < writes; i += 1) await write(stores[n % stores.length] as Store);
      }),
    ).finally(() => {
      isWriting = false;
    });
    // The first of each replica stays; the others come back on any replica, where they were told their last.
    const roaming = watchers.slice(feeds.length).map(async (watcher, i) => {
      watcher.hasRoom = () => Math.random() < 0.8;
      watcher.takes = () => pause(Math.random() * 3).then(() => true);
      while (isWriting) {
        await pause(Math.random() * 15);
        await watcher.close();
        // As a client does: what it knows is a text.
        if (watcher.next !== undefined) watcher.next = readCursor(toCursor(watcher.next));
        await watcher.open(feeds[(i + Math.floor(Math.random() * 2)) % feeds.length] as never);
      }
    });
    await Promise.all([writing, ...roaming]);

    const expected = Object.fromEntries(vmIds.map((vmId) => [vmId, upTo(lives[vmId] ?? 0)]));
    const events = Object.fromEntries(vmIds.map((vmId) => [vmId, upTo(seqs[vmId] ?? 0)]));
    const total = Object.values({ ...lives }).reduce((sum, n) => sum + n, 0);
    expect(total).toBeGreaterThan(20);
    const count = total + Object.values(seqs).reduce((sum, n) => sum + n, 0);
    for (const watcher of watchers) {
      await waitFor("all of it", () => watcher.items.length >= count).catch(() => {});
      await watcher.close();
      expect(watcher.told("vm")).toEqual(expected);
      expect(watcher.told("event")).toEqual(events);
      expect(watcher.gaps).toEqual([]);
      // The same order for everybody, wherever they look.
      expect(watcher.items.map(({ next }) => toCursor(next))).toEqual(
        watchers[0]?.items.map(({ next }) => toCursor(next)),
      );
    }
  });

  test("who comes while rows are read for others gets the events that were not looked up for them", async () => {
    const vmIds = ["vm-x", "vm-y"];
    await addVms(
      first(),
      vmIds.map((vmId) => vmRow(vmId)),
    );
    let isHeld = false;
    let release: () => void = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const holding: Store = {
      ...first(),
      // The first page with something in it is read, and not told of yet.
      transact: async (work) => {
        const result = await first().transact(work);
        const isPage = typeof result === "object" && result !== null && "items" in result;
        if (isPage && Array.isArray(result.items) && result.items.length > 0 && !isHeld) {
          isHeld = true;
          await held;
        }
        return result;
      },
    };
    const feed = openFeed(holding, end);
    const changes = new Watcher();
    await changes.open(feed, { kinds: new Set(["vm"]) });
    await first().transact(async (tx) => {
      await nextLife(tx, "vm-x");
      await addEvents(
        tx,
        vmIds.flatMap((vmId) => [eventRow(vmId, 1), eventRow(vmId, 2)]),
      );
    });
    await waitFor("the page", () => isHeld);
    const watchers = vmIds.map((vmId) => ({ vmId, watcher: new Watcher() }));
    for (const { vmId, watcher } of watchers) await watcher.open(feed, { kinds: new Set(["event"]), vmId });
    release();
    for (const { vmId, watcher } of watchers) {
      await waitFor("the events", () => watcher.items.length >= 2).catch(() => {});
      await watcher.close();
      expect(watcher.told("event")).toEqual({ [vmId]: [1, 2] });
    }
    expect(changes.told("vm")).toEqual({ "vm-x": [1] });
    await changes.close();
  });

  test("one who takes nothing ends with the place to go on from, and misses nothing after it", async () => {
    await addVms(first(), [vmRow("vm-slow")]);
    const feed = openFeed(first(), end);
    const watcher = new Watcher();
    await watcher.open(feed, { kinds: new Set(["vm"]), vmId: "vm-slow" });
    await first().transact((tx) => nextLife(tx, "vm-slow"));
    await waitFor("the first", () => watcher.items.length === 1);
    watcher.hasRoom = () => false;
    watcher.takes = async () => false;
    for (let i = 0; i < 3; i += 1) await first().transact((tx) => nextLife(tx, "vm-slow"));
    const { reason, next } = await watcher.ended;
    expect(reason).toBe("slow");
    expect(feed.size).toBe(0);
    watcher.next = next;
    watcher.hasRoom = () => true;
    watcher.takes = async () => true;
    await watcher.open(feed, { kinds: new Set(["vm"]), vmId: "vm-slow" });
    await waitFor("the rest", () => watcher.items.length === 4);
    expect(watcher.told("vm")).toEqual({ "vm-slow": [1, 2, 3, 4] });
    await watcher.close();
  });

  test("a cursor whose next rows are forgotten, and one from another database, begin anew and say so", async () => {
    await addVms(first(), [vmRow("vm-old")]);
    const feed = openFeed(first(), end);
    const watcher = new Watcher();
    await watcher.open(feed);
    const old = watcher.next;
    await watcher.close();
    await first().transact((tx) => nextLife(tx, "vm-old"));
    // What nobody needs any more is removed without anybody's loss.
    expect(await forgetSome(first(), { ms: 0, rows: 1_000_000 })).toBeGreaterThan(0);
    await watcher.open(feed);
    expect(watcher.gaps).toEqual(["forgotten"]);
    expect(isBefore(old as never, watcher.next as never)).toBe(true);
    await first().transact((tx) => nextLife(tx, "vm-old"));
    await waitFor("what came after", () => watcher.told("vm")["vm-old"]?.at(-1) === 2);
    await watcher.close();
    watcher.next = { row: 10_000_000, n: 0 };
    await watcher.open(feed);
    expect(watcher.gaps).toEqual(["forgotten", "unknown"]);
    await watcher.close();
  });

  test("by rows, too: the oldest go first, some at a time", async () => {
    await addVms(first(), [vmRow("vm-many")]);
    for (let i = 0; i < 10; i += 1) await first().transact((tx) => nextLife(tx, "vm-many"));
    await forgetSome(first(), { ms: 3_600_000, rows: 4 });
    const left = await first().transact((tx) =>
      sql<{ n: number }>`select count(*)::int as n from feed`.execute(tx),
    );
    expect(left.rows[0]?.n).toBe(4);
  });
});

describeOnServer("a transaction that goes on for long", (engine) => {
  test("holds back what came after it and loses nothing; its own come first", async () => {
    const database = await engine.create();
    const store = await database.open();
    const end = new AbortController();
    try {
      await addVms(store, [vmRow("vm-a"), vmRow("vm-b")]);
      const feed = openFeed(store, end);
      const watcher = new Watcher();
      await watcher.open(feed);
      let release: () => void = () => {};
      let told: () => void = () => {};
      const hasWritten = new Promise<void>((resolve) => {
        told = resolve;
      });
      const slow = store.transact(async (tx) => {
        await nextLife(tx, "vm-a");
        told();
        await new Promise<void>((resolve) => {
          release = resolve;
        });
      });
      await hasWritten;
      await store.transact((tx) => nextLife(tx, "vm-b"));
      // Two more looks at least: each would show vm-b if it could be seen already.
      const looks = async () =>
        (await store.transact((tx) => sql<{ n: string }>`select pg_current_xact_id()::text as n`.execute(tx)))
          .rows[0]?.n ?? "0";
      const before = Number(await looks());
      await waitFor("looks", async () => Number(await looks()) > before + 6);
      expect(watcher.items).toEqual([]);
      release();
      await slow;
      await waitFor("both", () => watcher.items.length === 2);
      expect(watcher.items.map((item) => item.kind === "vm" && item.vmId)).toEqual(["vm-a", "vm-b"]);
      await watcher.close();
    } finally {
      end.abort();
      await store[Symbol.asyncDispose]();
      await database.drop();
    }
  });
});
