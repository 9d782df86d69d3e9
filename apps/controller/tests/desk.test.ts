import { waitFor } from "@mig/kit";
import type { ControllerMessage, VmEvent } from "@mig/protocol";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Wire } from "../src/session/desk.ts";
import type { Store } from "../src/store/open-store.ts";
import { describeOnEngines } from "./engines.ts";
import { openTestDesk, type TestDesk } from "./open-test-desk.ts";

/** The desk on a real database: the spines, the sessions and the watch, the same list on each engine. */
let names = 0;
function newName(): string {
  names += 1;
  return `vm-${names}`;
}

function event(vmId: string, seq: number, type: string, data: VmEvent["data"] = {}): VmEvent {
  return {
    type,
    vmId,
    poolId: "pool-a",
    orgId: "org-a",
    occurredAtMs: 1_790_000_000_000 + seq,
    eventId: `${vmId}-e${seq}`,
    seq,
    incarnation: "boot-1",
    data,
  };
}

class RecordingWire implements Wire {
  readonly sent: ControllerMessage[] = [];
  ended: string | undefined;
  send(message: ControllerMessage): boolean {
    this.sent.push(message);
    return true;
  }
  end(goAway: { reason: string }): void {
    this.ended = goAway.reason;
  }
  commands(): string[] {
    return this.sent.flatMap((m) => (m.kind === "command" ? [m.command.type] : []));
  }
  lastCommand() {
    return this.sent.flatMap((m) => (m.kind === "command" ? [m.command] : [])).at(-1);
  }
}

describeOnEngines("the watch", (engine) => {
  it("calls a silent VM unreachable, hears it again, and writes it off when it stays silent", async () => {
    const database = await engine.create();
    const store = await database.open();
    const open = openTestDesk(store);
    const vm = newName();
    const beat = () =>
      open.desk.beat(vm, { vmId: vm, poolId: "p", incarnation: "boot-1", migletState: "idle", sentAtMs: 1 });
    const isReachability = (word: string) => async () => (await open.desk.findVm(vm)).reachability === word;
    await beat();
    await waitFor("unreachable", isReachability("unreachable"));
    await beat();
    await waitFor("online", isReachability("online"));
    await waitFor("lost", isReachability("lost"));
    expect((await open.desk.findVm(vm)).state).toBe("lost");
    const refusal = () =>
      beat().then(
        () => undefined,
        (error: unknown) => (error as { code: string }).code,
      );
    expect(await waitFor("the refusal", refusal)).toBe("incarnation_lost");
    await open[Symbol.asyncDispose]();
    await store[Symbol.asyncDispose]();
    await database.drop();
  });

  it("a VM that was written off mid-job still tells how the job ended; an order for a VM that is away waits for it", async () => {
    const database = await engine.create();
    const store = await database.open();
    const open = openTestDesk(store);
    const vm = newName();
    await open.desk.recordEvents(vm, [event(vm, 1, "job_started", { job_id: "j", run_id: "1" })]);
    const ordered = await open.desk.queueCommand("vm-never-seen", {
      type: "drain",
      parameters: {},
      by: "test",
    });
    const isLost = async () => (await open.desk.findVm(vm)).state === "lost";
    await waitFor("lost", isLost);
    const results = () =>
      store.transact((tx) =>
        sql<{ result: string }>`select result from jobs where vm_id = ${vm}`.execute(tx),
      );
    expect((await results()).rows).toEqual([{ result: "unknown" }]);
    await open.desk.recordEvents(vm, [
      event(vm, 2, "job_completed", { job_id: "j", run_id: "1", success: true }),
    ]);
    expect((await results()).rows).toEqual([{ result: "succeeded" }]);
    expect(await open.desk.findVm(vm)).toMatchObject({
      state: "lost",
      runnerState: "offline",
      currentJob: null,
    });
    const waiting = await store.transact((tx) =>
      sql<{ state: string }>`select state from commands where id = ${ordered.id}`.execute(tx),
    );
    expect(waiting.rows).toEqual([{ state: "pending" }]);
    await open[Symbol.asyncDispose]();
    await store[Symbol.asyncDispose]();
    await database.drop();
  });

  it("writes nobody off at once when the whole fleet falls silent", async () => {
    const database = await engine.create();
    const store = await database.open();
    const open = openTestDesk(store);
    const vms = Array.from({ length: 30 }, newName);
    for (const vm of vms) {
      await open.desk.beat(vm, { vmId: vm, poolId: "p", incarnation: "b", migletState: "idle", sentAtMs: 1 });
    }
    const count = async (reachability: string): Promise<number> =>
      (await open.desk.listVms({ limit: 100, reachability })).vms.length;
    await waitFor("all to be unreachable", async () => (await count("unreachable")) === vms.length);
    const lostAt = performance.now() + 1_500;
    await waitFor("the bound for lost to pass", () => performance.now() > lostAt);
    expect(await count("lost")).toBe(0);
    await open[Symbol.asyncDispose]();
    await store[Symbol.asyncDispose]();
    await database.drop();
  });
});

describeOnEngines("the desk", (engine) => {
  let store: Store;
  let drop: () => Promise<void>;
  let open: TestDesk;

  beforeAll(async () => {
    const database = await engine.create();
    store = await database.open();
    drop = database.drop;
    open = openTestDesk(store);
  });
  afterAll(async () => {
    await open[Symbol.asyncDispose]();
    await store[Symbol.asyncDispose]();
    await drop();
  });

  const stored = async (vmId: string): Promise<string[]> => {
    const rows = await store.transact((tx) =>
      sql<{
        type: string;
        seq: string | null;
      }>`select type, seq from events where vm_id = ${vmId} order by id`.execute(tx),
    );
    return rows.rows.map((row) => `${row.seq ?? "-"} ${row.type}`);
  };
  const connect = (vmId: string, migletState = "ready") => ({
    vmId,
    poolId: "pool-a",
    orgId: "org-a",
    version: "0.1.0",
    incarnation: "boot-1",
    protocolVersion: 1,
    migletState,
  });
  const join = async (vmId: string, migletState = "ready") => {
    const wire = new RecordingWire();
    const session = await open.desk.open(connect(vmId, migletState), "grpc", wire);
    session.ready();
    return { wire, session };
  };

  it("stores an event once, however often it comes", async () => {
    const vm = newName();
    const first = event(vm, 1, "vm_started");
    expect(await open.desk.recordEvents(vm, [first])).toMatchObject({ upToSeq: 1, rejected: [] });
    expect(await open.desk.recordEvents(vm, [first, first])).toMatchObject({ upToSeq: 1, rejected: [] });
    expect(await stored(vm)).toEqual(["1 vm_started"]);
  });

  it("stores in order: a gap is refused for now and closes when the missing ones come", async () => {
    const vm = newName();
    await open.desk.recordEvents(vm, [event(vm, 1, "vm_started")]);
    const early = await open.desk.recordEvents(vm, [event(vm, 3, "job_started")]);
    expect(early).toMatchObject({
      upToSeq: 1,
      rejected: [{ seq: 3, code: "out_of_order", permanent: false }],
    });
    await open.desk.recordEvents(vm, [event(vm, 2, "runner_registered"), event(vm, 3, "job_started")]);
    expect(await stored(vm)).toEqual(["1 vm_started", "2 runner_registered", "3 job_started"]);
  });

  it("takes events_dropped in the place of what was dropped", async () => {
    const vm = newName();
    await open.desk.recordEvents(vm, [event(vm, 1, "vm_started")]);
    const dropped = event(vm, 7, "events_dropped", {
      from_seq: 2,
      counts: { job_heartbeat: 6 },
      reason: "spool_full",
    });
    expect(await open.desk.recordEvents(vm, [dropped, event(vm, 8, "job_started")])).toMatchObject({
      upToSeq: 8,
    });
  });

  it("keeps a poison event as refused and goes on behind it", async () => {
    const vm = newName();
    const poison = event(vm, 2, "Not A Type");
    const reused = { ...event(vm, 3, "job_started"), eventId: `${vm}-e1` };
    const ack = await open.desk.recordEvents(vm, [
      event(vm, 1, "vm_started"),
      poison,
      reused,
      event(vm, 4, "job_started"),
    ]);
    expect(ack.upToSeq).toBe(4);
    expect(ack.rejected.map((r) => [r.seq, r.permanent])).toEqual([
      [2, true],
      [3, true],
    ]);
    expect(await stored(vm)).toEqual(["1 vm_started", "2 unknown", "3 job_started", "4 job_started"]);
  });

  it("keeps text that PostgreSQL cannot hold out of its way", async () => {
    const vm = newName();
    await open.desk.recordEvents(vm, [event(vm, 1, "vm_started", { version: "a\u0000b\ud800" })]);
    expect((await open.desk.findVm(vm)).agentVersion).toBe("a\ufffdb\ufffd");
  });

  it("commits many VMs' events together and acknowledges each its own", async () => {
    const vms = Array.from({ length: 60 }, newName);
    const acks = await Promise.all(
      vms.map((vm, i) =>
        open.desk.recordEvents(
          vm,
          Array.from({ length: (i % 3) + 1 }, (_, n) => event(vm, n + 1, "job_heartbeat")),
        ),
      ),
    );
    expect(acks.map((ack) => ack.upToSeq)).toEqual(vms.map((_, i) => (i % 3) + 1));
  });

  it("refuses what would not fit while it waits for the database, by count and by bytes, and stores the rest", async () => {
    let letGo: () => void = () => {};
    let isHeld = false;
    const held = store.transact(async (tx) => {
      await sql`lock table events`.execute(tx);
      await new Promise<void>((resolve) => {
        letGo = resolve;
        isHeld = true;
      });
    });
    // On a busy machine the refusals came before the lock, and nobody let go of it.
    await waitFor("the lock", () => isHeld);
    const vms = Array.from({ length: 60 }, newName);
    const big = { text: "x".repeat(60_000) };
    const sent = vms.map((vm) =>
      open.desk
        .recordEvents(
          vm,
          Array.from({ length: 16 }, (_, i) => event(vm, i + 1, "job_heartbeat", big)),
        )
        .then(
          (ack) => ack.upToSeq,
          (error: unknown) => (error as { code: string; retryAfterMs: number }).code,
        ),
    );
    await waitFor("the refusals", async () => {
      const first = await Promise.race([sent.at(-1), Promise.resolve("pending")]);
      return first !== "pending";
    });
    letGo();
    await held;
    const outcomes = await Promise.all(sent);
    expect(new Set(outcomes)).toEqual(new Set([16, "overloaded"]));
    // 32 MiB of the 58 that were offered, and what was under way.
    const taken = outcomes.filter((outcome) => outcome === 16).length;
    expect(taken).toBeGreaterThan(25);
    expect(taken).toBeLessThan(45);
  });

  it("leads a VM through its life", async () => {
    const vm = newName();
    const state = async (): Promise<string> => (await open.desk.findVm(vm)).state;
    await open.desk.recordEvents(vm, [event(vm, 1, "vm_started")]);
    expect(await state()).toBe("initializing");
    const { wire } = await join(vm);
    const command = await waitFor("register_runner", () => wire.lastCommand());
    expect(command).toMatchObject({
      type: "register_runner",
      attempt: 1,
      parameters: { registration_token: `token-for-${vm}` },
    });
    await open.desk.answer(vm, { commandId: command.id, stage: "received", success: true }, false);
    await open.desk.recordEvents(vm, [event(vm, 2, "runner_registered", { runner_name: "r1", labels: [] })]);
    const answered = await open.desk.answer(
      vm,
      { commandId: command.id, stage: "result", success: true, result: { runner_name: "r1" } },
      false,
    );
    expect([answered.state, await state()]).toEqual(["succeeded", "idle"]);
    await open.desk.recordEvents(vm, [event(vm, 3, "job_started", { job_id: "build", run_id: "7" })]);
    expect(await open.desk.findVm(vm)).toMatchObject({
      state: "running",
      runnerState: "running",
      currentJob: { job_id: "build" },
    });
    await open.desk.recordEvents(vm, [
      event(vm, 4, "job_completed", { job_id: "build", run_id: "7", success: true }),
    ]);
    expect(await open.desk.findVm(vm)).toMatchObject({ state: "idle", currentJob: null });
    await open.desk.recordEvents(vm, [event(vm, 5, "vm_shutting_down"), event(vm, 6, "vm_terminated")]);
    expect(await state()).toBe("terminated");
    const jobs = await store.transact((tx) =>
      sql<{ result: string }>`select result from jobs where vm_id = ${vm}`.execute(tx),
    );
    expect(jobs.rows).toEqual([{ result: "succeeded" }]);
  });

  it("asks for no second runner when the answer overtakes the heartbeat that says so", async () => {
    const vm = newName();
    const { wire } = await join(vm);
    const command = await waitFor("register_runner", () => wire.lastCommand());
    await open.desk.answer(vm, { commandId: command.id, stage: "received", success: true }, false);
    await open.desk.answer(vm, { commandId: command.id, stage: "result", success: true }, false);
    // Any beat makes the controller look; this one says nothing of the state.
    await open.desk.beat(vm, { vmId: vm, poolId: "pool-a", incarnation: "boot-1", sentAtMs: 1 });
    await waitFor("the beat", async () => (await open.desk.findVm(vm)).lastHeartbeatMs !== null);
    const count = await store.transact((tx) =>
      sql<{ n: number }>`select count(*)::float8 as n from commands where vm_id = ${vm}`.execute(tx),
    );
    expect(count.rows[0]?.n).toBe(1);
  });

  it("queues register_runner once while a VM says ready", async () => {
    const vm = newName();
    const { wire } = await join(vm);
    for (let n = 0; n < 3; n += 1)
      await open.desk.beat(vm, {
        vmId: vm,
        poolId: "pool-a",
        incarnation: "boot-1",
        migletState: "ready",
        sentAtMs: 1,
      });
    await waitFor("register_runner", () => wire.lastCommand());
    await join(vm);
    const count = await store.transact((tx) =>
      sql<{ n: number }>`select count(*)::float8 as n from commands where vm_id = ${vm}`.execute(tx),
    );
    expect(count.rows[0]?.n).toBe(1);
  });

  it("ends a VM that asks for a runner again after three registrations have failed", async () => {
    const vm = newName();
    const { wire } = await join(vm);
    const failed = new Set<string>();
    for (let n = 0; n < 3; n += 1) {
      const { id } = await waitFor(`registration ${n + 1}`, () => {
        const command = wire.lastCommand();
        return command?.type === "register_runner" && !failed.has(command.id) && command;
      });
      failed.add(id);
      await open.desk.answer(vm, { commandId: id, stage: "received", success: true }, false);
      await open.desk.answer(vm, { commandId: id, stage: "result", success: false, message: "no" }, false);
      await open.desk.beat(vm, {
        vmId: vm,
        poolId: "pool-a",
        incarnation: "boot-1",
        migletState: "ready",
        sentAtMs: Date.now(),
      });
    }
    await waitFor("its end", () => wire.lastCommand()?.type === "shutdown");
    expect((await open.desk.findVm(vm))?.problem).toMatchObject({ code: "runner_configure_failed" });
  });

  it("has one command in flight, in order, and only a shutdown by force overtakes", async () => {
    const vm = newName();
    const order = (type: string, parameters = {}) =>
      open.desk.queueCommand(vm, { type, parameters, by: "test" });
    const { wire } = await join(vm, "idle");
    await order("set_log_level", { level: "debug" });
    const first = await waitFor("the first command", () => wire.lastCommand());
    await order("drain");
    await order("shutdown", { force: true });
    expect(wire.commands()).toEqual(["set_log_level"]);
    await open.desk.answer(vm, { commandId: first.id, stage: "received", success: true }, false);
    await waitFor("the urgent one", () => wire.commands().length === 2);
    expect(wire.commands()).toEqual(["set_log_level", "shutdown"]);
    await open.desk.answer(
      vm,
      { commandId: wire.lastCommand()?.id ?? "", stage: "received", success: true },
      false,
    );
    await waitFor("the one behind", () => wire.commands().length === 3);
    expect(wire.commands()).toEqual(["set_log_level", "shutdown", "drain"]);
  });

  it("delivers again after a reconnect what was not acknowledged, with the same id and grant", async () => {
    const vm = newName();
    const before = await join(vm);
    const first = await waitFor("register_runner", () => before.wire.lastCommand());
    const after = await join(vm);
    const second = await waitFor("register_runner again", () => after.wire.lastCommand());
    expect(before.wire.ended).toBe("superseded");
    expect(second).toEqual({ ...first, attempt: 2 });
    before.session.close();
    expect(open.registry.get(vm)?.epoch).toBe(after.session.reply.epoch);
  });

  it("delivers again on the same session after the acknowledgement time", async () => {
    const vm = newName();
    const { wire } = await join(vm, "idle");
    await open.desk.queueCommand(vm, { type: "set_log_level", parameters: { level: "warn" }, by: "test" });
    await waitFor("a second delivery", () => wire.commands().length >= 2);
    const answered = await open.desk.answer(
      vm,
      { commandId: wire.lastCommand()?.id ?? "", stage: "result", success: true },
      false,
    );
    expect(answered.state).toBe("succeeded");
  });

  it("keeps commands for a VM that is not there, and expires them in time", async () => {
    const vm = newName();
    const waiting = await open.desk.queueCommand(vm, { type: "drain", parameters: {}, by: "test" });
    const brief = await open.desk.queueCommand(vm, {
      type: "shutdown",
      parameters: {},
      by: "test",
      expiresInMs: 30,
    });
    await waitFor("expiry", async () => (await stateOf(brief.id)) === "expired");
    const { wire } = await join(vm, "idle");
    expect((await waitFor("the drain", () => wire.lastCommand())).id).toBe(waiting.id);
  });
  const stateOf = async (id: string): Promise<string | undefined> =>
    (
      await store.transact((tx) =>
        sql<{ state: string }>`select state from commands where id = ${id}`.execute(tx),
      )
    ).rows[0]?.state;

  it("delivers to a VM that polls, again until it is acknowledged, and lets the newest request win", async () => {
    const vm = newName();
    const poll = (waitMs: number) =>
      open.desk.poll(
        vm,
        { waitMs, incarnation: "boot-1", migletState: "idle", protocolVersion: 1 },
        AbortSignal.timeout(10_000),
      );
    expect(await poll(0)).toEqual([]);
    const held = poll(5_000);
    const newer = poll(5_000);
    await expect(held).rejects.toMatchObject({ code: "superseded" });
    const queued = await open.desk.queueCommand(vm, { type: "drain", parameters: {}, by: "test" });
    expect((await newer)[0]?.id).toBe(queued.id);
    expect((await poll(0))[0]).toMatchObject({ id: queued.id, attempt: 2 });
    await open.desk.answer(vm, { commandId: queued.id, stage: "received", success: true }, false);
    expect(await poll(0)).toEqual([]);
    expect((await open.desk.findVm(vm)).state).toBe("draining");
  });

  it("begins a new life with a new incarnation; the old one's events are kept and move nothing", async () => {
    const vm = newName();
    await open.desk.recordEvents(vm, [
      event(vm, 1, "vm_started"),
      event(vm, 2, "job_started", { job_id: "j" }),
    ]);
    const boot2 = { incarnation: "boot-2", eventId: `${vm}-second`, occurredAtMs: Date.now() + 1_000 };
    const second = { ...event(vm, 1, "vm_started"), ...boot2 };
    await open.desk.recordEvents(vm, [second]);
    await open.desk.recordEvents(vm, [event(vm, 3, "job_completed", { job_id: "j" })]);
    expect(await open.desk.findVm(vm)).toMatchObject({
      life: 2,
      incarnation: "boot-2",
      state: "initializing",
      currentJob: null,
    });
    expect(await stored(vm)).toHaveLength(4);
  });

  it("refuses names that are not ids and messages about another VM", async () => {
    const vm = newName();
    for (const bad of ["../x", "a/b", "", "-x", "a".repeat(129), "a..b", "a\u0000"]) {
      await expect(open.desk.recordEvents(bad, [event(bad, 1, "vm_started")])).rejects.toMatchObject({
        code: "invalid_request",
      });
    }
    await expect(open.desk.recordEvents(vm, [event("other", 1, "vm_started")])).rejects.toMatchObject({
      code: "vm_mismatch",
    });
    await expect(
      open.desk.queueCommand(vm, { type: "reboot", parameters: {}, by: "t" }),
    ).rejects.toMatchObject({ code: "refused" });
  });

  it("shows a VM in the organization of its pool when it names none, and keeps what it named", async () => {
    const [silent, named] = [newName(), newName()];
    const { orgId: _orgId, ...withoutOrg } = event(silent, 1, "vm_started");
    await open.desk.recordEvents(silent, [withoutOrg]);
    expect((await open.desk.findVm(silent)).orgId).toBe("org-of-pool");
    await open.desk.recordEvents(named, [event(named, 1, "vm_started")]);
    await open.desk.poll(named, { waitMs: 0, protocolVersion: 0 }, AbortSignal.timeout(5_000));
    expect(await open.desk.findVm(named)).toMatchObject({ orgId: "org-a", poolId: "pool-a" });
  });

  it("lists VMs in pages", async () => {
    const made = Array.from({ length: 10 }, newName);
    for (const vm of made) await open.desk.recordEvents(vm, [event(vm, 1, "vm_started")]);
    const seen: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await open.desk.listVms({ limit: 7, ...(cursor === undefined ? {} : { cursor }) });
      seen.push(...page.vms.map((vm) => vm.vmId));
      cursor = page.nextCursor ?? undefined;
    } while (cursor !== undefined);
    expect(new Set(seen).size).toBe(seen.length);
    expect(seen).toEqual(expect.arrayContaining(made));
    await expect(open.desk.listVms({ limit: 7, cursor: "zzz" })).rejects.toMatchObject({
      code: "invalid_request",
    });
  });

  it("an agent from before MIG that dies after its acknowledgement is asked again when it is back", async () => {
    const vm = newName();
    const old = { vmId: vm, poolId: "pool-a", version: "dev", protocolVersion: 0 };
    const boot = async (): Promise<RecordingWire> => {
      await open.desk.beat(vm, { vmId: vm, poolId: "pool-a", migletState: "connecting", sentAtMs: 1 });
      await waitFor("the beat", async () => (await open.desk.findVm(vm)).migletState === "connecting");
      const wire = new RecordingWire();
      (await open.desk.open(old, "grpc", wire)).ready();
      return wire;
    };
    const before = await boot();
    const first = await waitFor("register_runner", () => before.lastCommand());
    await open.desk.answer(vm, { commandId: first.id, success: true }, true);
    const wire = await boot();
    const second = await waitFor("register_runner again", () => wire.lastCommand());
    expect(second.id).not.toBe(first.id);
    expect(await stateOf(first.id)).toBe("expired");
  });

  it("an agent from before MIG goes from connect to idle and is asked once a boot", async () => {
    const vm = newName();
    const old = { vmId: vm, poolId: "pool-a", version: "dev", protocolVersion: 0 };
    const beat = (migletState: string) =>
      open.desk.beat(vm, { vmId: vm, poolId: "pool-a", migletState, sentAtMs: 1 });
    await beat("connecting");
    const wire = new RecordingWire();
    (await open.desk.open(old, "grpc", wire)).ready();
    const command = await waitFor("register_runner", () => wire.lastCommand());
    const acked = await open.desk.answer(
      vm,
      { commandId: command.id, success: true, message: "Registration config received" },
      true,
    );
    expect(acked.state).toBe("acknowledged");
    await beat("registering_runner");
    await open.desk.recordEvents(vm, [
      { type: "runner_registered", vmId: vm, poolId: "pool-a", occurredAtMs: 1, data: {} },
    ]);
    await waitFor("succeeded", async () => (await stateOf(command.id)) === "succeeded");
    const again = new RecordingWire();
    (await open.desk.open(old, "grpc", again)).ready();
    await beat("idle");
    await waitFor("idle", async () => (await open.desk.findVm(vm)).state === "idle");
    expect(again.commands()).toEqual([]);
    await beat("connecting");
    await waitFor("a new life", async () => (await open.desk.findVm(vm)).life === 2);
  });
});
