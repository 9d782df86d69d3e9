import { silentLog } from "@mig/kit";
import { sql } from "kysely";
import { expect, test } from "vitest";
import { openStore, type Store } from "../src/store/open-store.ts";
import { later } from "../src/store/server-driver.ts";
import { describeOnEngines, describeOnServer } from "./engines.ts";

describeOnEngines("statements that nobody waits for", (engine) => {
  const withStore = async (use: (store: Store) => Promise<void>): Promise<void> => {
    const database = await engine.create();
    const store = await database.open();
    try {
      await store.transact((tx) => sql`create table things (id integer primary key)`.execute(tx));
      await use(store);
    } finally {
      await store[Symbol.asyncDispose]();
      await database.drop();
    }
  };
  const add = (id: number) => sql`insert into things values (${id})`;
  const ids = (store: Store): Promise<number[]> =>
    store.transact(async (tx) => {
      const { rows } = await sql<{ id: number }>`select id from things order by id`.execute(tx);
      return rows.map(({ id }) => id);
    });

  test("are done in order, before what is asked after them, and with the commit", () =>
    withStore(async (store) => {
      await store.transact(async (tx) => {
        await later(tx, add(1));
        await later(tx, add(2));
        const { rows } = await sql<{ sum: number }>`select sum(id)::float8 as sum from things`.execute(tx);
        expect(rows).toEqual([{ sum: 3 }]);
        await later(tx, add(3));
      });
      expect(await ids(store)).toEqual([1, 2, 3]);
    }));

  // A driver of our own forgot it: pauses were not kept, and secrets were not counted.
  test("and those that somebody waits for tell how many rows they changed", () =>
    withStore((store) =>
      store.transact(async (tx) => {
        const insert = sql`insert into things select generate_series(1, 3)`;
        const counts = [
          insert,
          sql`update things set id = id + ${10}`,
          sql`delete from things where id > ${11}`,
        ];
        for (const [n, statement] of counts.entries())
          expect((await statement.execute(tx)).numAffectedRows).toBe([3n, 3n, 2n][n]);
      }),
    ));

  test("fail the whole transaction with their own error, whatever comes after them", () =>
    withStore(async (store) => {
      const refused = (error: unknown): unknown => (error as { cause?: { code?: string } }).cause?.code;
      const atCommit = store.transact(async (tx) => {
        await later(tx, add(1));
        await later(tx, add(1));
        await later(tx, add(2));
      });
      expect(await atCommit.catch(refused)).toBe("23505");
      const atNext = store.transact(async (tx) => {
        await later(tx, add(1));
        await later(tx, sql`insert into things values (${"x"}::text::integer)`);
        await add(2).execute(tx);
      });
      expect(await atNext.catch(refused)).toBe("22P02");
      expect(await ids(store)).toEqual([]);
    }));

  test("are undone with the transaction, and the connection serves the next one", () =>
    withStore(async (store) => {
      for (let n = 0; n < 30; n += 1) {
        const failed = store.transact(async (tx) => {
          await later(tx, add(n));
          if (n % 3 === 0) await later(tx, add(n));
          throw new Error("changed my mind");
        });
        await expect(failed).rejects.toThrow();
        await store.transact((tx) => later(tx, add(1_000 + n)), { mayBeForgotten: n % 2 === 0 });
      }
      expect(await ids(store)).toEqual(Array.from({ length: 30 }, (_, n) => 1_000 + n));
    }));
});

describeOnServer("prepared statements", (engine) => {
  test("can be left out, and are not made without end", async () => {
    const { url = "", drop } = await engine.create();
    const prepared = async (prepare: boolean): Promise<number> => {
      const store = await openStore({
        ...{ dataDir: "", databaseUrl: url, prepare, connectionsMax: 1, log: silentLog },
      });
      try {
        for (let n = 0; n < 600; n += 1)
          await store.transact((tx) => sql`select ${n}::int, ${sql.raw(String(n))}`.execute(tx));
        const { rows } = await store.transact((tx) =>
          sql<{ count: number }>`select count(*)::float8 as count from pg_prepared_statements`.execute(tx),
        );
        return rows[0]?.count ?? Number.NaN;
      } finally {
        await store[Symbol.asyncDispose]();
      }
    };
    try {
      expect(await prepared(false)).toBe(0);
      const kept = await prepared(true);
      expect(kept).toBeGreaterThan(300);
      expect(kept).toBeLessThanOrEqual(400);
    } finally {
      await drop();
    }
  });
});
