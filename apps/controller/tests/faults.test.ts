import { silentLog, waitFor } from "@mig/kit";
import type { Heartbeat, VmEvent } from "@mig/protocol";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Wire } from "../src/session/desk.ts";
import type { Store } from "../src/store/open-store.ts";
import { describeOnEngines } from "./engines.ts";
import { openTestDesk, type TestDesk } from "./open-test-desk.ts";

/** What goes wrong around the desk: agents that lie, agents that come twice, replicas side by side, a database that goes. */
const beatOf = (vmId: string, more: Partial<Heartbeat> = {}): Heartbeat => ({
  vmId,
  poolId: "p",
  incarnation: "boot-1",
  sentAtMs: Date.now(),
  ...more,
});
const eventOf = (vmId: string, seq: number, type: string, more: Partial<VmEvent> = {}): VmEvent => ({
  type,
  vmId,
  poolId: "p",
  occurredAtMs: Date.now(),
  eventId: `${vmId}-${more.incarnation ?? "boot-1"}-${seq}`,
  seq,
  incarnation: "boot-1",
  data: {},
  ...more,
});
const connectOf = (vmId: string, incarnation = "boot-1") => ({
  vmId,
  poolId: "p",
  version: "0.1.0",
  incarnation,
  protocolVersion: 1,
  migletState: "idle",
});

interface Recorded extends Wire {
  readonly commands: string[];
  ended: string | undefined;
}
function recordWire(): Recorded {
  const wire: Recorded = {
    commands: [],
    ended: undefined,
    send(message) {
      if (message.kind === "command") wire.commands.push(message.command.type);
      return true;
    },
    end(goAway) {
      wire.ended = goAway.reason;
    },
  };
  return wire;
}

describeOnEngines("faults", (engine) => {
  let store: Store;
  let drop: () => Promise<void>;
  let open: TestDesk;
  const find = (vmId: string) => open.desk.findVm(vmId);
  const join = async (at: TestDesk, vmId: string, incarnation?: string) => {
    const wire = recordWire();
    (await at.desk.open(connectOf(vmId, incarnation), "grpc", wire)).ready();
    return wire;
  };

  beforeAll(async () => {
    const database = await engine.create();
    store = await database.open();
    drop = database.drop;
    // Nobody falls silent here, and nothing is written by the sweep: only news are, at once.
    const silence = { unreachableAfterMs: 60_000, lostAfterMs: 60_000, lostWithJobAfterMs: 60_000 };
    open = openTestDesk(store, {
      pace: { heartbeatIntervalMs: 150, silence, graceMs: 60_000, sweepMs: 400 },
    });
  });
  afterAll(async () => {
    await open[Symbol.asyncDispose]();
    await store[Symbol.asyncDispose]();
    await drop();
  });

  it("a heartbeat that cannot be written holds up no other", async () => {
    await Promise.all([
      open.desk.beat("bad", beatOf("bad", { sentAtMs: 9e15, migletState: "idle" })),
      open.desk.beat("good", beatOf("good", { migletState: "idle" })),
    ]);
    await waitFor("the good one", async () => (await find("good")).lastHeartbeatMs !== null);
  });

  it("a heartbeat that waited is not written over what an event has told since", async () => {
    const vm = "overtaken";
    await open.desk.beat(vm, beatOf(vm, { migletState: "idle" }));
    await waitFor("the first", async () => (await find(vm)).migletState === "idle");
    await open.desk.beat(vm, beatOf(vm, { migletState: "idle" }));
    await open.desk.recordEvents(vm, [eventOf(vm, 1, "job_started", { data: { job_id: "j" } })]);
    await open.desk.beat("other", beatOf("other", { migletState: "idle" }));
    await waitFor("the flush", async () => (await find("other")).lastHeartbeatMs !== null);
    expect(await find(vm)).toMatchObject({ state: "running", currentJob: { job_id: "j" } });
  });

  it("an impossible duration holds up no event", async () => {
    const data = { job_id: "j", success: true, duration_ms: 1e300 };
    const ack = await open.desk.recordEvents("odd", [eventOf("odd", 1, "job_completed", { data })]);
    expect(ack).toMatchObject({ upToSeq: 1, rejected: [] });
  });

  it("an old agent that never tells its state is asked to register once", async () => {
    const vm = "wordless";
    const wire = recordWire();
    const answered: string[] = [];
    wire.send = (message) => {
      if (message.kind === "command") answered.push(message.command.id);
      return true;
    };
    const old = { vmId: vm, poolId: "p", version: "dev", protocolVersion: 0 };
    (await open.desk.open(old, "grpc", wire)).ready();
    const id = await waitFor("register_runner", () => answered[0]);
    await open.desk.answer(vm, { commandId: id, success: true }, true);
    const { eventId: _e, seq: _s, incarnation: _i, ...registered } = eventOf(vm, 1, "runner_registered");
    await open.desk.recordEvents(vm, [registered]);
    await open.desk.beat(vm, { vmId: vm, poolId: "p", sentAtMs: 1 });
    await waitFor("the heartbeat", async () => (await find(vm)).lastHeartbeatMs !== null);
    const count = await store.transact((tx) =>
      sql<{ n: number }>`select count(*)::float8 as n from commands where vm_id = ${vm}`.execute(tx),
    );
    expect(count.rows[0]?.n).toBe(1);
  });

  it("an agent of an old life does not take the living one's session", async () => {
    await join(open, "twice", "boot-1");
    const living = await join(open, "twice", "boot-2");
    const old = await join(open, "twice", "boot-1");
    expect([living.ended, old.ended]).toEqual([undefined, "incarnation_lost"]);
    await open.desk.queueCommand("twice", { type: "set_log_level", parameters: {}, by: "t" });
    await waitFor("the command", () => living.commands.length === 1);
  });

  it("what a boot left behind that never reached us begins no life", async () => {
    const vm = "leftover";
    const before = Date.now() - 60_000;
    const living = await join(open, vm, "boot-3");
    const ack = await open.desk.recordEvents(vm, [
      eventOf(vm, 1, "vm_started", { incarnation: "boot-2", occurredAtMs: before }),
    ]);
    expect(ack).toMatchObject({ incarnation: "boot-2", upToSeq: 1 });
    expect(await find(vm)).toMatchObject({ life: 1, incarnation: "boot-3" });
    expect(living.ended).toBeUndefined();
    // Had only the clock been wrong, the connect says so: the dead send none.
    await join(open, vm, "boot-2");
    expect(await find(vm)).toMatchObject({ life: 2, incarnation: "boot-2", ackedSeq: 1 });
  });

  it("a look at the queue of a VM that has ended does not bring it back", async () => {
    const vm = "gone";
    await join(open, vm);
    await open.desk.recordEvents(vm, [eventOf(vm, 1, "vm_terminated")]);
    open.registry.endAll("test", 0);
    const poll = open.desk.poll(vm, { waitMs: 0, protocolVersion: 0 }, AbortSignal.timeout(5_000));
    await expect(poll).rejects.toMatchObject({ code: "incarnation_lost" });
    expect((await find(vm)).state).toBe("terminated");
  });

  it("a session that moved to another replica ends on the first when there is something to bring", async () => {
    const vm = "moved";
    await using other = openTestDesk(store, { log: silentLog });
    const first = await join(open, vm);
    const second = await join(other, vm);
    await open.desk.queueCommand(vm, { type: "set_log_level", parameters: {}, by: "t" });
    await waitFor("the command", () => second.commands.length > 0);
    await waitFor("the end of the first", () => first.ended === "superseded");
    expect(first.commands).toEqual([]);
  });

  it("polls that reach two replicas in turn are answered by both", async () => {
    const vm = "between";
    await using other = openTestDesk(store);
    const poll = (at: TestDesk) =>
      at.desk.poll(
        vm,
        { waitMs: 0, incarnation: "boot-1", migletState: "idle", protocolVersion: 1 },
        AbortSignal.timeout(5_000),
      );
    for (const at of [open, other, open, other]) expect(await poll(at)).toEqual([]);
    await open.desk.queueCommand(vm, { type: "set_log_level", parameters: {}, by: "t" });
    expect(await poll(open)).toHaveLength(1);
  });

  it("a fleet of thousands that falls silent at once is not written off at once", async () => {
    await open.desk.beat("model", beatOf("model"));
    await waitFor("the model", async () => (await find("model")).lastHeartbeatMs !== null);
    await store.transact((tx) =>
      sql`insert into vms select (jsonb_populate_record(v, jsonb_build_object('vm_id', 'mass-' || n,
        'last_seen', now() - interval '1 hour'))).* from vms v, generate_series(1, 3000) n where v.vm_id = 'model'`.execute(
        tx,
      ),
    );
    const watching = openTestDesk(store);
    const count = async (reachability: string) =>
      (
        await store.transact((tx) =>
          sql<{
            n: number;
          }>`select count(*)::float8 as n from vms where vm_id like 'mass-%' and reachability = ${reachability}`.execute(
            tx,
          ),
        )
      ).rows[0]?.n ?? 0;
    await waitFor("all to be unreachable", async () => (await count("online")) === 0);
    expect(await count("lost")).toBeLessThan(100);
    await watching[Symbol.asyncDispose]();
  });

  // PGlite has no connections that could die.
  if (engine.name !== "PGlite")
    it("a connection that dies in the middle of a unit ends nothing else", async () => {
      const cut = store.transact(async (tx) => {
        const own = await sql<{ pid: number }>`select pg_backend_pid() as pid`.execute(tx);
        const { pid = 0 } = own.rows[0] ?? {};
        await store.transact((other) => sql`select pg_terminate_backend(${pid})`.execute(other));
        const isGone = async () =>
          (
            await store.transact((other) =>
              sql`select from pg_stat_activity where pid = ${pid}`.execute(other),
            )
          ).rows.length === 0;
        await waitFor("the connection to be gone", isGone);
        await sql`select 1`.execute(tx);
      });
      await expect(cut).rejects.toMatchObject({ code: "storage_unavailable" });
      expect(await store.isReachable()).toBe(true);
    });
});
