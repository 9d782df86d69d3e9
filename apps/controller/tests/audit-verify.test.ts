import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { sql } from "kysely";
import { expect, test } from "vitest";
import { readHead, readLinks, recordAct } from "../src/audit/audit.ts";
import { type Act, firstHash, type Head, hashOf, type Link, restOf } from "../src/audit/chain.ts";
import { pageMax, verifyChain } from "../src/audit/verify.ts";
import type { Store } from "../src/store/open-store.ts";
import { describeOnEngines, describeOnOneEngine } from "./engines.ts";

const act: Act = { orgId: "acme", actor: "key:ci", action: "pool.write", object: "pool:a", result: "done" };

/** What the database does in recordAct. */
function link(act: Act, seq: number, atMs: number, before: string): Link {
  const entry = `{"seq":${seq},"at":"${new Date(atMs).toISOString()}${restOf(act)}`;
  return { orgId: act.orgId, seq, entry, hash: hashOf(before, entry) };
}

function chainOf(length: number, atMs = 1_700_000_000_000): Link[] {
  const links: Link[] = [];
  let before = firstHash;
  for (let seq = 1; seq <= length; seq += 1) {
    const next = link(act, seq, atMs, before);
    links.push(next);
    before = next.hash;
  }
  return links;
}

const headOf = (links: readonly Link[]): Head => links.at(-1) ?? { seq: 0, hash: firstHash };
const serve = (links: readonly Link[], head = headOf(links)) =>
  verifyChain({
    head: async () => head,
    page: async (after, upTo, limit) => links.filter(({ seq }) => seq > after && seq <= upTo).slice(0, limit),
  });

const whole = chainOf(2_500);
const without = (from: number, to: number): Link[] => whole.filter(({ seq }) => seq < from || seq > to);
const changed = (at: number, more: Partial<Link>): Link[] =>
  whole.map((one) => (one.seq === at ? { ...one, ...more } : one));

test("an empty chain and a whole one are good", async () => {
  expect(await serve([])).toEqual({ entries: 0, head: firstHash, problem: undefined });
  expect(await serve(whole)).toMatchObject({ entries: 2_500, problem: undefined });
});

test("what is written while it is read does not count", async () => {
  const head = headOf(whole.slice(0, 1_700));
  expect(await serve(whole, head)).toEqual({ entries: 1_700, head: head.hash, problem: undefined });
});

// On both sides of the end of a page, where a check by pages would slip.
test.each([1, pageMax, pageMax + 1, 2_500])("entry %i changed, or taken out, is found", async (at) => {
  expect((await serve(changed(at, { entry: "{}" }))).problem).toContain(
    `entry ${at} is not what was written`,
  );
  expect((await serve(changed(at, { hash: firstHash }))).problem).toMatch(/is not what was written/);
  const { entries, problem } = await serve(without(at, at), headOf(whole));
  expect(entries).toBe(at - 1);
  expect(problem).toMatch(at === 2_500 ? /ends at 2499; it ended at 2500/ : /is missing/);
});

test("whole pages taken out, or all of it, are found", async () => {
  expect((await serve(without(pageMax + 1, 2 * pageMax))).problem).toContain("entry 1001 is missing");
  expect((await serve([], headOf(whole))).problem).toContain("the chain ends at 0");
});

test("no page is held longer than it is looked at", async () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const served: WeakRef<Link[]>[] = [];
  const pages = 30;
  let heldMax = 0;
  let before = firstHash;
  await verifyChain({
    head: async () => ({ seq: pages * pageMax, hash: "never reached" }),
    // The links are made as they are asked for: only the verification could hold them.
    page: async (after, _, limit) => {
      await new Promise((resolve) => setImmediate(resolve));
      collect();
      heldMax = Math.max(heldMax, served.filter((page) => page.deref() !== undefined).length);
      const page: Link[] = [];
      for (let seq = after + 1; seq <= after + limit; seq += 1) {
        const next = link(act, seq, 0, before);
        before = next.hash;
        page.push(next);
      }
      served.push(new WeakRef(page));
      return page;
    },
  });
  expect(served).toHaveLength(pages);
  expect(heldMax).toBeLessThanOrEqual(3);
});

describeOnOneEngine("a chain of 3,000 entries", (engine) => {
  async function fill(store: Store, links: readonly Link[]): Promise<void> {
    const rows = links.map(({ seq, entry, hash }) => ({ seq, entry, hash }));
    const { seq, hash } = headOf(links);
    await store.transact(async (tx) => {
      await sql`insert into audit (org_id, seq, at, actor, action, object, result, entry, hash)
        select 'acme', seq, now(), 'key:ci', 'pool.write', 'pool:a', 'done', entry, hash
        from jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) as r(seq bigint, entry text, hash text)`.execute(
        tx,
      );
      await sql`insert into audit_heads (org_id, seq, hash) values ('acme', ${seq}, ${hash})
        on conflict (org_id) do update set seq = excluded.seq, hash = excluded.hash`.execute(tx);
    });
  }

  test("is verified in pages, and stays good when acts are recorded after it", async () => {
    const database = await engine.create();
    const store = await database.open();
    try {
      await fill(store, chainOf(3_000));
      const asked: number[] = [];
      const verify = () =>
        verifyChain({
          head: () => readHead(store, "acme"),
          async page(after, upTo, limit) {
            const page = await readLinks(store, "acme", { after, upTo, limit });
            asked.push(page.length);
            return page;
          },
        });
      expect(await verify()).toMatchObject({ entries: 3_000, problem: undefined });
      expect(asked).toEqual([pageMax, pageMax, pageMax]);
      await store.transact((tx) => recordAct(tx, act));
      expect(await verify()).toMatchObject({ entries: 3_001, problem: undefined });
    } finally {
      await store[Symbol.asyncDispose]();
      await database.drop();
    }
  });
});

describeOnEngines("what the database writes", (engine) => {
  test("is the text that is hashed, whatever was done, and one chain, whoever writes at once", async () => {
    const database = await engine.create();
    const store = await database.open();
    try {
      const hostile = `a"b\\c\n\u0000 d' || $1 \u{1f600} \ud800 {"seq":9}`;
      const acts: Act[] = Array.from({ length: 40 }, (_, n) => ({
        ...act,
        object: `pool:${n}`,
        ...(n % 2 === 0 ? { details: { reason: hostile, n } } : { address: "127.0.0.1", requestId: "r-1" }),
      }));
      const before = Date.now();
      await Promise.all(acts.map((one) => store.transact((tx) => recordAct(tx, one))));
      await expect(
        store.transact(async (tx) => {
          await recordAct(tx, act);
          throw new Error("no");
        }),
      ).rejects.toThrow();
      const links = await readLinks(store, "acme", { after: 0, upTo: 100, limit: 100 });
      const head = await readHead(store, "acme");
      expect(await serve(links, head)).toMatchObject({ entries: 40, problem: undefined });
      const entries = links.map(({ entry }) => JSON.parse(entry) as Record<string, unknown>);
      expect(new Set(entries.map((entry) => entry["object"]))).toEqual(
        new Set(acts.map((one) => one.object)),
      );
      for (const [n, entry] of entries.entries()) {
        expect(entry).toMatchObject({ seq: n + 1, org: "acme", actor: "key:ci", result: "done" });
        const at = String(entry["at"]);
        expect(at).toBe(new Date(at).toISOString());
        expect(Math.abs(Date.parse(at) - before)).toBeLessThan(60_000);
        const details = entry["details"] as { reason: string } | undefined;
        if (details !== undefined)
          expect(details.reason).toBe(hostile.replaceAll("\0", "\uFFFD").toWellFormed());
      }
    } finally {
      await store[Symbol.asyncDispose]();
      await database.drop();
    }
  });
});
