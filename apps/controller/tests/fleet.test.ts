import { silentLog, waitFor } from "@mig/kit";
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createOrder } from "../src/fleet/create-order.ts";
import type { FleetParts } from "../src/fleet/parts.ts";
import { findOrder } from "../src/fleet/rows.ts";
import { steerOrder } from "../src/fleet/steer-order.ts";
import { advance } from "../src/fleet/sweep-orders.ts";
import { listTargets } from "../src/fleet/targets.ts";
import { tidyOrders } from "../src/fleet/tidy-orders.ts";
import { judgeOrder, type NewFleetOrder, type Selector } from "../src/fleet/words.ts";
import type { Store } from "../src/store/open-store.ts";
import { describeOnEngines } from "./engines.ts";
import { type IdentityLab, openIdentityLab } from "./identity-lab.ts";
import { openTestDesk, type TestDesk } from "./open-test-desk.ts";

const origin = { actor: "key:test", requestId: "r-1", address: "127.0.0.1" };
/** Nobody is called silent: these VMs speak only in answers. */
const pace = {
  heartbeatIntervalMs: 150,
  silence: { unreachableAfterMs: 60_000, lostAfterMs: 90_000, lostWithJobAfterMs: 90_000 },
  graceMs: 60_000,
  sweepMs: 20,
};

it("judges an order: pause on new failures only, done when nothing is left", () => {
  const order = { state: "running", pauseAfterFailures: 2, failuresSeen: 0 } as const;
  const at = { total: 9, pending: 3, sent: 1, succeeded: 3, failed: 1, skipped: 1 };
  expect(judgeOrder(order, at)).toBe("running");
  expect(judgeOrder(order, { ...at, failed: 2 })).toBe("paused");
  expect(judgeOrder({ ...order, failuresSeen: 1 }, { ...at, failed: 2 })).toBe("running");
  expect(judgeOrder({ ...order, pauseAfterFailures: 0 }, { ...at, failed: 9 })).toBe("running");
  expect(judgeOrder(order, { ...at, failed: 2, pending: 0 })).toBe("running");
  expect(judgeOrder(order, { ...at, pending: 0, sent: 0 })).toBe("done");
  expect(judgeOrder({ ...order, state: "paused" }, { ...at, pending: 0, sent: 0 })).toBe("done");
  expect(judgeOrder({ ...order, state: "cancelled" }, { ...at, pending: 0, sent: 0 })).toBe("cancelled");
});

describeOnEngines("fleet orders", (engine) => {
  let database: Awaited<ReturnType<typeof engine.create>>;
  const stores: Store[] = [];
  let desks: TestDesk[] = [];
  let parts: FleetParts[] = [];

  /** Two replicas; PGlite has one process, so there they share the store. */
  beforeAll(async () => {
    database = await engine.create();
    stores.push(await database.open());
    if (engine.name !== "PGlite") stores.push(await database.open());
    openReplicas();
  });
  function openReplicas(): void {
    desks = [0, 1].map((n) => openTestDesk(stores[n % stores.length] as Store, { pace }));
    parts = desks.map(({ store, registry }) => ({
      store,
      registry,
      log: silentLog,
      rules: { commandExpiryMs: 60_000, commandAckMs: 60_000, registrationsMax: 3 },
      poolOf: (id) =>
        id === "nowhere"
          ? undefined
          : { id, orgId: "o", runnerUrl: "", runnerGroup: "", labels: [`on-${id}`], registration: "token" },
    }));
  }
  const closeReplicas = () => Promise.all(desks.map((desk) => desk[Symbol.asyncDispose]()));
  afterAll(async () => {
    await closeReplicas();
    for (const store of stores) await store[Symbol.asyncDispose]();
    await database.drop();
  });

  const desk = () => desks[0]?.desk as TestDesk["desk"];
  const own = () => parts[0] as FleetParts;

  async function addVms(pool: string, count: number): Promise<string[]> {
    const vmIds = Array.from({ length: count }, (_, n) => `${pool}-${String(n).padStart(3, "0")}`);
    await Promise.all(
      vmIds.map((vmId) =>
        desk().recordEvents(vmId, [
          { type: "vm_started", vmId, poolId: pool, orgId: `org-of-${pool}`, occurredAtMs: 1, data: {} },
        ]),
      ),
    );
    return vmIds;
  }
  const give = (selector: Selector, more: Partial<NewFleetOrder> = {}, orgIds?: readonly string[]) =>
    createOrder(
      own(),
      {
        selector,
        type: "set_log_level",
        parameters: { level: "debug" },
        maxParallel: 4,
        pauseAfterFailures: 3,
        by: "test",
        ...more,
      },
      { orgIds, origin },
    );
  const look = (id: string) => findOrder(own().store, id);
  const openOf = async (id: string) =>
    (
      await own().store.transact((tx) =>
        sql<{ id: string; vmId: string }>`select c.id, c.vm_id as "vmId" from commands c
          join fleet_targets t on t.command_id = c.id
          where t.order_id = ${id} and c.state in ('pending', 'sent', 'acknowledged')`.execute(tx),
      )
    ).rows;
  const answer = ({ id, vmId }: { id: string; vmId: string }, success = true) =>
    desk().answer(
      vmId,
      { commandId: id, stage: "result", success, message: success ? "" : "it broke" },
      false,
    );

  it("two replicas that hammer one order never have more under way than it says, and each VM is told once", async () => {
    const vmIds = await addVms("crowd", 24);
    const { id } = await give({ poolId: "crowd" });
    let most = 0;
    const told: string[] = [];
    while ((await look(id)).state !== "done") {
      await Promise.all(Array.from({ length: 6 }, (_, n) => advance(parts[n % 2] as FleetParts, id)));
      const open = await openOf(id);
      most = Math.max(most, open.length);
      const some = open.slice(0, 3);
      told.push(...some.map(({ vmId }) => vmId));
      await Promise.all(some.map((one) => answer(one)));
    }
    expect(most).toBeGreaterThan(1);
    expect(most).toBeLessThanOrEqual(4);
    expect(told.sort()).toEqual(vmIds);
    expect((await look(id)).progress).toEqual({
      total: 24,
      pending: 0,
      sent: 0,
      succeeded: 24,
      failed: 0,
      skipped: 0,
    });
  });

  it("goes on after both replicas are gone in the middle, with nothing lost and nothing told twice", async () => {
    await addVms("restart", 6);
    const { id } = await give({ poolId: "restart" }, { maxParallel: 2 });
    const first = await waitFor("two sent", async () => {
      const open = await openOf(id);
      return open.length === 2 && open;
    });
    await closeReplicas();
    openReplicas();
    const seen = new Set(first.map((one) => one.vmId));
    await waitFor("the end", async () => {
      for (const one of await openOf(id)) {
        seen.add(one.vmId);
        await answer(one);
      }
      return (await look(id)).state === "done";
    });
    expect(seen.size).toBe(6);
    const { rows } = await own().store.transact((tx) =>
      sql<{ n: number }>`select count(*)::float8 as n from commands where vm_id like 'restart-%'`.execute(tx),
    );
    expect(rows).toEqual([{ n: 6 }]);
  });

  it("pauses on failures, resumes after a look, and says which VMs failed and why", async () => {
    await addVms("fail", 8);
    const { id } = await give({ label: "on-fail" }, { maxParallel: 2, pauseAfterFailures: 2 });
    const failOpen = async () => {
      for (const one of await openOf(id)) await answer(one, false);
    };
    await waitFor("the pause", async () => {
      if ((await look(id)).state === "running") await failOpen();
      return (await look(id)).state === "paused";
    });
    await waitFor("all settled", async () => {
      await failOpen();
      return (await look(id)).progress.sent === 0;
    });
    const paused = await look(id);
    expect(paused.progress.pending).toBeGreaterThan(0);
    expect(paused.message).toContain("VMs failed");
    expect(paused.problems[0]).toMatchObject({ vmId: "fail-000", state: "failed", message: "it broke" });
    for (const each of parts) await advance(each, id);
    expect((await look(id)).progress).toEqual(paused.progress);

    await steerOrder(own(), id, "resume", origin);
    await waitFor("the end", async () => {
      for (const one of await openOf(id)) await answer(one);
      return (await look(id)).state === "done";
    });
    const { failed, succeeded } = (await look(id)).progress;
    expect([failed, failed + succeeded]).toEqual([paused.progress.failed, 8]);
  });

  it("a cancel takes back what no VM has, and counts what has begun", async () => {
    await addVms("stop", 6);
    const { id } = await give({ poolId: "stop" }, { maxParallel: 3 });
    const open = await waitFor("three sent", async () => {
      const rows = await openOf(id);
      return rows.length === 3 && rows;
    });
    const [begun] = open;
    if (begun === undefined) throw new Error("nothing was sent");
    await desk().answer(begun.vmId, { commandId: begun.id, stage: "received", success: true }, false);
    expect((await steerOrder(own(), id, "cancel", origin)).state).toBe("cancelled");
    expect((await steerOrder(own(), id, "cancel", origin)).state).toBe("cancelled");
    await expect(steerOrder(own(), id, "resume", origin)).rejects.toMatchObject({ code: "conflict" });
    expect((await openOf(id)).map((one) => one.id)).toEqual([begun.id]);
    await answer(begun);
    await waitFor("it to be counted", async () => (await look(id)).progress.sent === 0);
    expect(await look(id)).toMatchObject({ state: "cancelled", progress: { succeeded: 1, skipped: 5 } });
  });

  it("a pause holds back the rest; a VM that has ended by its turn is skipped", async () => {
    const [, , last = ""] = await addVms("late", 3);
    const { id } = await give({ vmIds: [...(await addVms("late", 3)), "unheard-of"] }, { maxParallel: 1 });
    await steerOrder(own(), id, "pause", origin);
    await desk().recordEvents(last, [
      { type: "vm_terminated", vmId: last, poolId: "late", occurredAtMs: 2, data: {} },
    ]);
    for (const one of await openOf(id)) await answer(one);
    await waitFor("the first to be counted", async () => (await look(id)).progress.succeeded <= 1);
    expect((await look(id)).progress.pending).toBeGreaterThanOrEqual(2);
    await steerOrder(own(), id, "resume", origin);
    await waitFor("the end", async () => {
      for (const one of await openOf(id)) await answer(one);
      return (await look(id)).state === "done";
    });
    const end = await look(id);
    expect(end.progress).toMatchObject({ total: 3, succeeded: 2, skipped: 1 });
    expect(end.problems).toEqual([
      { vmId: last, state: "skipped", commandId: null, message: "the VM is terminated" },
    ]);
    // Ended VMs are meant only by those who name them.
    expect((await give({ poolId: "late" })).progress.total).toBe(2);
    expect((await give({ states: ["terminated"], poolId: "late" })).progress.total).toBe(1);
  });

  it("forgets what ended long ago with its targets, and nothing that is under way", async () => {
    const [vmId = ""] = await addVms("old", 1);
    const [done, going] = [await give({ poolId: "old" }), await give({ poolId: "old" })];
    await steerOrder(own(), done.id, "cancel", origin);
    await waitFor("the command", async () => (await openOf(going.id)).length === 1);
    const [begun] = await openOf(going.id);
    if (begun === undefined) throw new Error("nothing was sent");
    await desk().answer(vmId, { commandId: begun.id, stage: "received", success: true }, false);
    await steerOrder(own(), going.id, "cancel", origin);
    await own().store.transact((tx) =>
      sql`update fleet_orders set finished_at = clock_timestamp() - interval '1 hour'
        where id in (${done.id}, ${going.id})`.execute(tx),
    );
    expect(await tidyOrders(own().store, 2 * 3_600_000)).toBe(0);
    expect(await tidyOrders(own().store, 60_000)).toBe(1);
    await expect(look(done.id)).rejects.toMatchObject({ code: "not_found" });
    expect(await listTargets(own().store, done.id, { limit: 10 })).toEqual([]);
    await answer(begun);
    await waitFor("it to be counted", async () => (await look(going.id)).progress.sent === 0);
    // A sweep may hold it at this moment.
    await waitFor("it to be forgotten", async () => (await tidyOrders(own().store, 60_000)) === 1);
  });

  it("refuses an order for nobody, for everybody, and for VMs of others", async () => {
    await addVms("mine", 1);
    for (const selector of [{}, { poolId: "none" }, { label: "none" }, { agentVersion: "0" }])
      await expect(give(selector), JSON.stringify(selector)).rejects.toMatchObject({ code: "refused" });
    await expect(give({ poolId: "mine" }, {}, ["another"])).rejects.toMatchObject({ code: "refused" });
    expect((await give({ vmIds: ["mine-000", "crowd-000"] }, {}, ["org-of-mine"])).progress.total).toBe(1);
  });
});

describe("over HTTP", () => {
  let lab: IdentityLab;
  const stops: (() => Promise<void>)[] = [];
  let acme: string;
  beforeAll(async () => {
    lab = await openIdentityLab({ atEnd: (stop) => void stops.push(stop) });
    for (const [vmId, pool] of [
      ["a-1", "pool-a"],
      ["a-2", "pool-a"],
      ["b-1", "pool-b"],
    ] as const) {
      const machine = lab.machine(vmId);
      const { access_token: token } = (await machine.join(await lab.joinToken({ pool_id: pool }))).body;
      await fetch(`${lab.url}/api/v1/vms/${vmId}/heartbeat`, {
        method: "POST",
        body: "{}",
        headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      });
    }
    acme = await lab.key({ role: "operator", orgs: ["acme"] });
  });
  afterAll(async () => {
    for (const stop of stops) await stop();
  });

  const drain = (selector: object, key?: string) =>
    lab.api("POST", "fleet/commands", { selector, type: "drain", max_parallel: 1 }, key);

  it("gives an order, shows, lists, pauses, resumes and cancels it; the log knows", async () => {
    const given = await drain({ pool_id: "pool-a" });
    expect([given.status, given.body]).toMatchObject([
      201,
      {
        state: "running",
        max_parallel: 1,
        pause_after_failures: 3,
        progress: { total: 2, sent: 1, pending: 1 },
      },
    ]);
    const { id } = given.body;
    expect((await lab.api("GET", "fleet/commands")).body).toMatchObject({
      fleet_commands: [{ id, progress: { total: 2 } }],
      next_cursor: null,
    });
    expect((await lab.api("GET", "fleet/commands?state=done")).body.fleet_commands).toEqual([]);
    for (const [step, state] of Object.entries({ pause: "paused", resume: "running", cancel: "cancelled" }))
      expect((await lab.api("POST", `fleet/commands/${id}/${step}`)).body).toMatchObject({ id, state });
    expect((await lab.api("POST", `fleet/commands/${id}/pause`)).status).toBe(409);
    expect((await lab.api("GET", `audit?object=fleet:${id}`)).body.entries).toHaveLength(4);
    expect((await lab.api("GET", "commands?type=drain&state=cancelled")).body.commands).toHaveLength(1);
  });

  it("lists every VM of an order, page by page and by state, to those who may see the order", async () => {
    const { id } = (await drain({ vm_ids: ["a-1", "a-2", "b-1"] })).body;
    const targetsOf = (query = "", key?: string) =>
      lab.api("GET", `fleet/commands/${id}/targets${query}`, undefined, key);
    const whole = (await targetsOf()).body;
    expect(whole).toMatchObject({
      targets: [
        { vm_id: "a-1", org_id: "acme", state: "sent", command_id: expect.any(String), message: null },
        { vm_id: "a-2", state: "pending", command_id: null },
        { vm_id: "b-1", state: "pending" },
      ],
      next_cursor: null,
    });
    const first = (await targetsOf("?limit=2")).body;
    const second = (await targetsOf(`?limit=2&cursor=${first.next_cursor}`)).body;
    expect([...first.targets, ...second.targets]).toEqual(whole.targets);
    expect(second.next_cursor).toBeNull();
    expect((await targetsOf("?state=pending&limit=1")).body.targets).toEqual([whole.targets[1]]);
    expect((await targetsOf("", acme)).status).toBe(404);
    expect((await targetsOf("?cursor=x")).status).toBe(400);
    expect((await lab.api("GET", "fleet/commands/none/targets")).status).toBe(404);
    await lab.api("POST", `fleet/commands/${id}/cancel`);
  });

  it("is cut to the caller's organizations, and one key makes one order", async () => {
    expect((await drain({ org_id: "other" }, acme)).status).toBe(404);
    expect((await drain({ pool_id: "pool-b" }, acme)).status).toBe(422);
    const both = (await drain({ vm_ids: ["a-1", "b-1"] })).body.id;
    expect((await lab.api("GET", `fleet/commands/${both}`, undefined, acme)).status).toBe(404);
    expect((await lab.api("POST", `fleet/commands/${both}/cancel`, undefined, acme)).status).toBe(404);
    const own = (await drain({ vm_ids: ["a-1", "b-1"] }, acme)).body;
    expect(own.progress.total).toBe(1);
    const listed = (await lab.api("GET", "fleet/commands", undefined, acme)).body.fleet_commands;
    expect(listed.map((row: { id: string }) => row.id)).not.toContain(both);

    const once = () =>
      fetch(`${lab.url}/api/v1/fleet/commands`, {
        method: "POST",
        headers: {
          authorization: `Bearer ${acme}`,
          "content-type": "application/json",
          "idempotency-key": "k",
        },
        body: JSON.stringify({ selector: { pool_id: "pool-a" }, type: "drain" }),
      }).then(async (reply) => ((await reply.json()) as { id: string }).id);
    expect(new Set(await Promise.all([once(), once(), once()])).size).toBe(1);
  });

  it.each([
    [{ selector: {}, type: "drain" }, 422],
    [{ selector: { pools: "x" }, type: "drain" }, 400],
    [{ selector: { pool_id: "pool-a" }, type: "no_such" }, 422],
    [{ selector: { pool_id: "pool-a" }, type: "drain", max_parallel: 0 }, 400],
    [{ selector: { pool_id: "pool-a" }, type: "drain", expires_in: "400d" }, 400],
  ])("refuses %j", async (json, status) => {
    expect((await lab.api("POST", "fleet/commands", json)).status).toBe(status);
  });
});
