import { randomBytes } from "node:crypto";
import { silentLog, waitFor } from "@mig/kit";
import { createAppKey, type Github, startGithub } from "@mig/sandbox";
import { sql } from "kysely";
import { afterEach, beforeEach, expect, it } from "vitest";
import { readAppKey } from "../src/github/app-jwt.ts";
import type { Grant, Pool } from "../src/github/grant-source.ts";
import { type Inventory, type InventorySettings, startInventory } from "../src/runner/inventory.ts";
import { createDrainOrder } from "../src/runner/inventory-drain.ts";
import { createRunnerInventory, type RunnerInventory } from "../src/runner/inventory-list.ts";
import { type OpenGrants, openGrants } from "../src/runner/open-grants.ts";
import { createSealer } from "../src/runner/seal.ts";
import type { Store } from "../src/store/open-store.ts";
import { type VmRow, vmsTable } from "../src/store/rows.ts";
import { insertRows } from "../src/store/table.ts";
import { describeOnOneEngine } from "./engines.ts";

/** GitHub's runners against ours: real grants, the stand-in's list, and what becomes of each. */
const key = createAppKey();

describeOnOneEngine("the runner inventory", (engine) => {
  let github: Github;
  let database: Awaited<ReturnType<typeof engine.create>>;
  let store: Store;
  let pool: Pool;
  let end: AbortController;
  let grants: OpenGrants;
  let shown: RunnerInventory;
  let removed: string[];

  beforeEach(async () => {
    github = await startGithub({ publicKeyPem: key.publicKeyPem, appId: 1234 });
    database = await engine.create();
    store = await database.open();
    end = new AbortController();
    removed = [];
    shown = createRunnerInventory(store);
    pool = {
      id: "p",
      orgId: "acme",
      runnerUrl: `${github.webUrl}/acme`,
      runnerGroup: "default",
      labels: ["self-hosted", "linux"],
      registration: "jit",
    };
    grants = openGrants({
      store,
      apps: [
        {
          id: "default",
          apiUrl: github.url,
          appId: "1234",
          keys: async () => [readAppKey(key.privateKeyPem)],
          perMinuteStart: 60_000,
          perMinuteMax: 60_000,
        },
      ],
      appOf: () => "default",
      poolOf: () => pool,
      sealer: createSealer(randomBytes(32)),
      wakeVm: () => {},
      onAlarm: () => {},
      log: silentLog,
      signal: end.signal,
    });
  });
  afterEach(async () => {
    end.abort();
    await grants[Symbol.asyncDispose]();
    await store[Symbol.asyncDispose]();
    await database.drop();
    await github.close();
  });

  /** One that looks only when it is told to, at once and always. */
  function open(more: Partial<InventorySettings> = {}): Inventory {
    const app = grants.apps.get("default");
    if (app === undefined) throw new Error("there is no App");
    return startInventory({
      app: app.app,
      registrar: app.registrar,
      store,
      pools: () => [pool],
      poolOf: () => pool,
      drain: createDrainOrder({
        store,
        rules: { commandExpiryMs: 60_000, commandAckMs: 300, registrationsMax: 3 },
        log: silentLog,
      }),
      onRemoved: ({ runnerName }) => removed.push(runnerName),
      log: silentLog,
      signal: end.signal,
      ...more,
      pace: { everyMs: 3_600_000, missingAfterMs: 0, ...more.pace },
    });
  }
  async function lookAgain(inventory: Inventory): Promise<void> {
    await store.transact((tx) => sql`update inventory_turns set next_at = clock_timestamp()`.execute(tx));
    await inventory.look();
  }

  async function addVm(vmId: string, more: Partial<VmRow> = {}): Promise<Grant> {
    const grant = await grants.source.take(
      { vmId, incarnation: "boot-1", requestId: "r-1", orgId: "acme", poolId: "p", pool },
      20_000,
    );
    const nowMs = Date.now();
    const row: VmRow = {
      vmId,
      poolId: "p",
      orgId: "acme",
      incarnation: "boot-1",
      life: 1,
      state: "idle",
      reachability: "online",
      runnerState: "idle",
      migletState: "idle",
      currentJob: null,
      health: null,
      agentVersion: null,
      protocolVersion: 1,
      runnerName: grant.runnerName ?? null,
      registrations: 1,
      drained: null,
      problem: null,
      sessionEpoch: 1,
      sessionChannel: null,
      commandSeq: 0,
      lastHeartbeatMs: nowMs,
      lastSeenMs: nowMs,
      createdAtMs: nowMs,
      updatedAtMs: nowMs,
      ...more,
    };
    await store.transact(async (tx) => {
      await insertRows(vmsTable, [row]).execute(tx);
      await sql`update grants set state = 'used', settled_at = clock_timestamp() where vm_id = ${vmId}`.execute(
        tx,
      );
    });
    return grant;
  }
  /** As somebody else would do it, with the same App. */
  async function registerByHand(name: string): Promise<void> {
    const app = grants.apps.get("default");
    await app?.registrar.register({ ...pool, runnerName: name });
  }
  const namesAtGithub = async () => (await github.runners()).map(({ name }) => name);
  const calls = async (method: string, path: RegExp) =>
    (await github.requests()).filter((one) => one.method === method && path.test(one.path));
  const verdictsNow = async () => (await shown.list({ limit: 100 })).counts;

  it("leaves what lives and what is not ours, removes what is over, and tells of ghosts", async () => {
    const lives = await addVm("vm-1");
    const over = await addVm("vm-2", { state: "terminated" });
    for (const name of ["build-box", "vm-9-deadbeef-1", "vm-2-deadbeef-1"]) await registerByHand(name);
    await open().look();
    expect((await namesAtGithub()).sort()).toEqual(
      [lives.runnerName, "build-box", "vm-2-deadbeef-1", "vm-9-deadbeef-1"].sort(),
    );
    expect(removed).toEqual([over.runnerName]);
    expect(await verdictsNow()).toEqual({ ours: 1, foreign: 1, ghost: 2 });
    const { runners, looks } = await shown.list({ limit: 100, verdict: "leftover" });
    expect(runners).toMatchObject([{ vmId: "vm-2", poolId: "p", removedAtMs: expect.any(Number) }]);
    expect(looks).toMatchObject([{ app: "default", problem: null, lookedAtMs: expect.any(Number) }]);
  });

  it("a pool may want its leftovers reported only", async () => {
    const over = await addVm("vm-2", { state: "lost" });
    await open({ policyOf: () => ({ leftover: "report" }) }).look();
    expect(await namesAtGithub()).toEqual([over.runnerName]);
    expect(await verdictsNow()).toEqual({ leftover: 1 });
  });

  it("a runner that turns out to be busy stays, and goes at a later look", async () => {
    const { runnerName } = await addVm("vm-2", { state: "lost" });
    const message = `Bad request - Runner "${runnerName}" is still running a job"`;
    await github.addFault({ method: "DELETE", path: "/runners/", status: 422, body: { message } });
    const inventory = open();
    await inventory.look();
    expect(await namesAtGithub()).toEqual([runnerName]);
    expect(removed).toEqual([]);
    await lookAgain(inventory);
    expect(await namesAtGithub()).toEqual([]);
    expect(removed).toEqual([runnerName]);
  });

  it("sees all pages of a long list", async () => {
    for (let i = 0; i < 205; i += 1) await registerByHand(`build-box-${i}`);
    await addVm("vm-1");
    await open().look();
    expect(await verdictsNow()).toEqual({ ours: 1, foreign: 205 });
    const first = await shown.list({ limit: 200 });
    const second = await shown.list({ limit: 200, cursor: first.nextCursor ?? "" });
    expect(second.nextCursor).toBeNull();
    expect(new Set([...first.runners, ...second.runners].map(({ runnerId }) => runnerId)).size).toBe(206);
  });

  it("a VM whose runner GitHub does not know is told to drain, once", async () => {
    await addVm("vm-1");
    for (const { id } of await github.runners()) await github.deleteRunner(id);
    const inventory = open();
    for (let i = 0; i < 3; i += 1) await lookAgain(inventory);
    const { rows } = await store.transact((tx) =>
      sql<object>`select type, parameters, created_by from commands`.execute(tx),
    );
    expect(rows).toEqual([
      { type: "drain", parameters: { reason: "runner_missing" }, created_by: "controller" },
    ]);
    expect((await shown.list({ limit: 9, verdict: "missing" })).runners).toMatchObject([
      { vmId: "vm-1", runnerId: null, drainedAtMs: expect.any(Number) },
    ]);
  });

  it("no VM is drained for a list that is not whole, nor before its time", async () => {
    await addVm("vm-1");
    for (const { id } of await github.runners()) await github.deleteRunner(id);
    await github.addFault({
      method: "GET",
      path: "/runners$",
      status: 200,
      body: { total_count: 1, runners: [] },
    });
    const inventory = open({ pace: { missingAfterMs: 3_600_000 } });
    await inventory.look();
    expect(await verdictsNow()).toEqual({});
    await lookAgain(inventory);
    expect(await verdictsNow()).toEqual({ missing: 1 });
    const { rows } = await store.transact((tx) => sql`select 1 from commands`.execute(tx));
    expect(rows).toEqual([]);
  });

  it("when all runners are gone at once, a tenth of the VMs is drained at each look", async () => {
    for (let i = 0; i < 20; i += 1) await addVm(`vm-${i}`);
    for (const { id } of await github.runners()) await github.deleteRunner(id);
    await open().look();
    const { rows } = await store.transact((tx) => sql`select 1 from commands`.execute(tx));
    expect(rows).toHaveLength(2);
  });

  it("of two replicas one looks, and the other one only when it is time again", async () => {
    await addVm("vm-1");
    const [one, other] = [open(), open()];
    await Promise.all([one.look(), other.look(), one.look()]);
    expect(await calls("GET", /\/actions\/runners\?/)).toHaveLength(1);
    await lookAgain(other);
    expect(await calls("GET", /\/actions\/runners\?/)).toHaveLength(2);
  });

  it("a replica that has lost its turn writes and removes nothing more", async () => {
    const { runnerName } = await addVm("vm-1", { state: "lost" });
    await github.addFault({ method: "GET", path: "/runners$", delayMs: 400 });
    const late = open().look();
    await waitFor("the turn to be taken", async () => {
      const { rows } = await store.transact((tx) => sql`select 1 from inventory_turns`.execute(tx));
      return rows.length > 0;
    });
    // As another one does when the time of the first is over.
    await store.transact((tx) => sql`update inventory_turns set epoch = epoch + 1`.execute(tx));
    await late;
    expect(await namesAtGithub()).toEqual([runnerName]);
    expect(await verdictsNow()).toEqual({});
  });

  it("a refusal is shown, and comes to an end", async () => {
    await addVm("vm-1");
    await github.addFault({ method: "GET", path: "/runners$", status: 500 });
    const inventory = open();
    await inventory.look();
    expect((await shown.list({ limit: 1 })).looks).toMatchObject([
      { problem: expect.stringContaining("500"), lookedAtMs: null },
    ]);
    await lookAgain(inventory);
    expect((await shown.list({ limit: 1 })).looks).toMatchObject([{ problem: null }]);
  });

  it("looks by itself, and stops when it is told to", async () => {
    await addVm("vm-1");
    const inventory = open({ pace: { everyMs: 100 } });
    await waitFor("two looks", async () => (await calls("GET", /\/actions\/runners\?/)).length >= 2);
    end.abort();
    await inventory.closed;
    expect(await verdictsNow()).toEqual({ ours: 1 });
  });

  it("a VM that has an order to obey is told to drain at a later look", async () => {
    await addVm("vm-1");
    for (const { id } of await github.runners()) await github.deleteRunner(id);
    let isBusy = true;
    const told: string[] = [];
    const inventory = open({
      drain: async (vmId) => {
        told.push(vmId);
        return !isBusy;
      },
    });
    await lookAgain(inventory);
    isBusy = false;
    for (let i = 0; i < 3; i += 1) await lookAgain(inventory);
    expect(told).toEqual(["vm-1", "vm-1"]);
  });

  it("forgets what is gone", async () => {
    await registerByHand("build-box");
    const inventory = open();
    await inventory.look();
    for (const { id } of await github.runners()) await github.deleteRunner(id);
    await lookAgain(inventory);
    expect(await verdictsNow()).toEqual({});
  });

  it("a cursor of another list is refused", async () => {
    await expect(shown.list({ limit: 1, cursor: "bm9uc2Vuc2U" })).rejects.toMatchObject({
      code: "invalid_request",
    });
  });
});
