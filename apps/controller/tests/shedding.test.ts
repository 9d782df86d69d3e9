import { silentLog, waitFor } from "@mig/kit";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ask, createGate, type Gate, type Who } from "../src/listen/auth.ts";
import { server } from "./directory-server.ts";
import { describeOnOneEngine } from "./engines.ts";
import { type IdentityLab, openIdentityLab } from "./identity-lab.ts";
import { openTestDesk } from "./open-test-desk.ts";
import { call, type Reply } from "./open-test-listeners.ts";

/** Issue 5, item 6: when the database stands still, what can wait is refused, and what ends work gets through. */
describe.skipIf(!server.available)("a database that takes no events", () => {
  let lab: IdentityLab;
  let blocker: pg.Client;
  const stops: (() => Promise<void>)[] = [];
  const tokens: Record<string, string> = {};
  beforeAll(async () => {
    const database = await server.create();
    lab = await openIdentityLab({
      databaseUrl: database.url,
      flags: ["--limits-shed-load=true"],
      atEnd: (stop) => void stops.unshift(stop),
    });
    for (const vmId of ["vm-1", "vm-2"])
      tokens[vmId] = (await lab.machine(vmId).join(await lab.joinToken())).body.access_token;
    blocker = new pg.Client({ connectionString: database.url });
    await blocker.connect();
    stops.push(() => blocker.end(), database.drop);
  });
  afterAll(async () => {
    for (const stop of stops) await stop();
  });
  const vm = (vmId: string, path: string, json?: object): Promise<Reply> =>
    call(`${lab.url}/api/v1/vms/${vmId}/${path}`, {
      headers: { authorization: `Bearer ${tokens[vmId]}` },
      ...(json === undefined ? {} : { json }),
    });
  const started = (vmId: string): object => ({
    type: "vm_started",
    vm_id: vmId,
    pool_id: "pool-a",
    timestamp: new Date().toISOString(),
  });

  it("refuses lists and bulk, and takes the result of a command", async () => {
    for (const vmId of ["vm-1", "vm-2"]) expect((await vm(vmId, "events", started(vmId))).status).toBe(200);
    const order = { type: "set_log_level", parameters: { level: "debug" } };
    expect((await lab.api("POST", "vms/vm-2/commands", order)).status).toBe(201);
    const [command] = (await vm("vm-2", "commands")).body.commands;

    await blocker.query("begin; lock table events in exclusive mode");
    const stuck = vm("vm-1", "events", { ...started("vm-1"), type: "heartbeat_note" });
    const refused = await waitFor(
      "bulk to be refused",
      async () => {
        const reply = await vm("vm-2", "heartbeat", {});
        return reply.status === 503 ? reply : undefined;
      },
      { timeoutMs: 20_000 },
    );
    const { error } = refused.body;
    expect([error.code, error.retry_after_ms % 1_000]).toEqual(["overloaded", 0]);
    expect(error.retry_after_ms).toBeGreaterThanOrEqual(3_000);
    expect(Number(refused.headers.get("retry-after"))).toBe(error.retry_after_ms / 1_000);
    expect((await vm("vm-2", "events", started("vm-2"))).body.error.code).toBe("overloaded");
    expect((await lab.api("GET", "vms")).body.error.code).toBe("overloaded");

    const result = await vm("vm-2", `commands/${command.id}/ack`, { success: true, stage: "result" });
    expect([result.status, result.body.command_state]).toEqual([200, "succeeded"]);
    expect((await lab.api("POST", "vms/vm-2/commands", order)).status).toBe(201);
    expect((await lab.machine("vm-3").join(await lab.joinToken())).status).toBe(200);

    await blocker.query("rollback");
    expect((await stuck).status).toBe(200);
    await waitFor("bulk to be taken again", async () => (await vm("vm-2", "heartbeat", {})).status === 200, {
      timeoutMs: 20_000,
    });
  });
});

describe("a heartbeat that is refused", () => {
  it("was a sign of life, and agents from before MIG, which keep nothing, are not refused", async () => {
    const heard: string[] = [];
    const limits = {
      connections: 1,
      vm: 100,
      pool: 100,
      org: 100,
      operator: 100,
      unknown: 100,
      shedLoad: true,
    };
    const desk = { queueAgeMs: () => 5_000, hear: (vmId: string) => void heard.push(vmId) };
    const gate = createGate({ limits, isOpen: true, tokens: undefined, log: silentLog, desk });
    const codeFor = (who: Who, ...asked: [Parameters<typeof ask>[1], "bulk"?]): Promise<string> => {
      const as: Gate = { ...gate, identify: async () => ({ who }) };
      const request = { headers: {}, ip: "127.0.0.1", params: { vm_id: "vm-1" } };
      return ask(
        as,
        ...asked,
      )(request).then(
        () => "taken",
        (error: { code: string }) => error.code,
      );
    };
    const vm = { party: "vm", vmId: "vm-1", poolId: "p", orgId: "o" } as const;
    await waitFor("bulk to be refused", async () => (await codeFor(vm, "vm.speak", "bulk")) === "overloaded");
    expect(new Set(heard)).toEqual(new Set(["vm-1"]));
    expect(await codeFor({ party: "agents" }, "vm.speak", "bulk")).toBe("taken");
    expect(await codeFor("anybody", "vm.speak", "bulk")).toBe("taken");
    expect(await codeFor(vm, "vm.speak")).toBe("taken");
    expect(await codeFor({ party: "admin", name: "ada" }, "vm.read")).toBe("overloaded");
    expect(await codeFor({ party: "admin", name: "ada" }, "vm.command")).toBe("taken");
  });
});

describeOnOneEngine("a VM that is only heard", (engine) => {
  it("does not fall silent", async () => {
    const database = await engine.create();
    const store = await database.open();
    let stop = (): void => {};
    try {
      const silence = { unreachableAfterMs: 1_000, lostAfterMs: 60_000, lostWithJobAfterMs: 60_000 };
      const pace = { heartbeatIntervalMs: 150, silence, graceMs: 0, sweepMs: 20 };
      await using lab = openTestDesk(store, { pace });
      const reachabilityOf = async (vmId: string): Promise<string> =>
        (await lab.desk.findVm(vmId)).reachability;
      for (const vmId of ["vm-heard", "vm-silent"])
        await lab.desk.recordEvents(vmId, [
          { type: "vm_started", vmId, poolId: "pool-1", occurredAtMs: Date.now(), data: {} },
        ]);
      // A timer like the sweep's own: when the machine is slow, both are late.
      const hearing = setInterval(() => lab.desk.hear("vm-heard"), 20);
      stop = () => clearInterval(hearing);
      await waitFor(
        "the silent one to be missed",
        async () => (await reachabilityOf("vm-silent")) === "unreachable",
      );
      expect(await reachabilityOf("vm-heard")).toBe("online");
    } finally {
      stop();
      await store[Symbol.asyncDispose]();
      await database.drop();
    }
  });
});
