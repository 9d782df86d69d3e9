import { sql } from "kysely";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createRunnerInventory, type RunnerInventory } from "../src/runner/inventory-list.ts";
import type { Desk } from "../src/session/desk.ts";
import { call, openTestListeners, type TestListeners } from "./open-test-listeners.ts";

/** GET /api/v1/runners on a real port, over a real table. */
let mig: TestListeners;
beforeAll(async () => {
  let inventory: RunnerInventory | undefined;
  const more: Partial<Desk> & { inventory: RunnerInventory } = {
    inventory: { list: async (filter) => (inventory ?? createRunnerInventory(mig.real.store)).list(filter) },
  };
  mig = await openTestListeners({ flags: ["--dev"], desk: () => more });
  inventory = createRunnerInventory(mig.real.store);
  await mig.real.store.transact(async (tx) => {
    await sql`insert into inventory_turns (app, account, holder, epoch, held_until, next_at, looked_at, problem)
      values ('a', 'github.com/acme', 'me', 1, now(), now(), now(), null)`.execute(tx);
    await sql`insert into runner_inventory (app, account, entry, epoch, runner_id, runner_name, vm_id, pool_id, org_id,
        verdict, reason, status, busy, verdict_at, seen_at, removed_at)
      select 'a', 'github.com/acme', i::text, 1, i, 'vm-' || i, 'vm-' || i, case when i % 2 = 0 then 'even' else 'odd' end, 'acme',
        case when i < 4 then 'ghost' else 'ours' end, 'a test', 'online', false, now(), now(), case when i = 9 then now() end
      from generate_series(1, 9) as i`.execute(tx);
  });
});
afterAll(() => mig[Symbol.asyncDispose]());

const ids = async (query: string): Promise<number[]> =>
  (await call(`${mig.url}/api/v1/runners?${query}`)).body.runners.map(
    (one: { runner_id: number }) => one.runner_id,
  );

it("is filtered by verdict, pool, organization and App", async () => {
  expect(await ids("verdict=ghost")).toEqual([1, 2, 3]);
  expect(await ids("verdict=ours&pool_id=even")).toEqual([4, 6, 8]);
  expect(await ids("org_id=other")).toEqual([]);
  expect(await ids("app=a&limit=1000")).toHaveLength(9);
  expect(await ids("app=b")).toEqual([]);
});

it("comes in pages, with counts of what is there and when it was looked at", async () => {
  const seen: number[] = [];
  for (let cursor = ""; ; ) {
    const { body } = await call(`${mig.url}/api/v1/runners?limit=4${cursor}`);
    seen.push(...body.runners.map((one: { runner_id: number }) => one.runner_id));
    expect(body.counts).toEqual({ ghost: 3, ours: 5 });
    expect(body.looks).toEqual([
      expect.objectContaining({ app: "a", looked_at: expect.stringMatching(/^2.*Z$/), problem: null }),
    ]);
    if (body.next_cursor === null) break;
    cursor = `&cursor=${body.next_cursor}`;
  }
  expect(seen).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
});

it.each(["verdict=nice", "limit=0", "limit=-1", "cursor=cnVubmVyOjB4MQ", "cursor=%00", "pool_id="])(
  "%s is refused",
  async (query) => {
    const { status, body } = await call(`${mig.url}/api/v1/runners?${query}`);
    expect({ status, code: body.error.code }).toEqual({ status: 400, code: "invalid_request" });
  },
);
