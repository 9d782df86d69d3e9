import { waitFor } from "@mig/kit";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { notesOf, readNote } from "../src/store/wakes.ts";
import { dial } from "./dial.ts";
import { dialSse } from "./dial-sse.ts";
import { dialWs } from "./dial-ws.ts";
import { describeOnServer } from "./engines.ts";
import { call } from "./open-test-listeners.ts";
import { openReplicas, type Replicas } from "./replicas.ts";

test("notes are few and short, whatever they name", () => {
  expect(notesOf("r", [])).toEqual([]);
  expect(notesOf("r", ["vm-1", "vm-2", "vm-1"])).toEqual(["r vm-1 vm-2"]);
  const many = Array.from({ length: 300 }, (_, n) => `${"v".repeat(120)}-${n}`);
  const notes = notesOf("r", many);
  expect(notes.every((note) => note.length < 8_000)).toBe(true);
  expect(notes.flatMap((note) => readNote(note).vmIds)).toEqual(many);
  const flood = notesOf(
    "r",
    many.flatMap((vmId) => [vmId, `${vmId}-b`, `${vmId}-c`]),
  );
  expect(flood.map(readNote)).toEqual([{ replica: "r", vmIds: "any" }]);
});

describeOnServer("a command made on one replica, the VM on another", (engine) => {
  let replicas: Replicas;
  beforeAll(async () => {
    replicas = await openReplicas(engine);
    await waitFor("both to listen", async () => (await listeners()).length === 2);
  });
  afterAll(() => replicas[Symbol.asyncDispose]());

  const about = "protocol_version=1&incarnation=i-1&miglet_state=idle&pool_id=p&version=test";
  const onA = (vmId: string): string => `${replicas.a.url}/api/v1/vms/${vmId}`;
  async function order(vmId: string, level = "debug"): Promise<string> {
    const reply = await call(`${replicas.b.url}/api/v1/vms/${vmId}/commands`, {
      json: { type: "set_log_level", parameters: { level } },
    });
    expect(reply.status).toBe(201);
    return reply.body.id;
  }
  /** The server processes of the connections that listen. */
  async function listeners(): Promise<number[]> {
    const [store] = replicas.stores;
    const rows = await store?.transact((tx) =>
      sql<{ pid: number }>`select pid from pg_stat_activity where datname = current_database()
        and application_name = 'mig-controller-wakes' and state = 'idle' order by pid`.execute(tx),
    );
    return rows?.rows.map(({ pid }) => pid) ?? [];
  }

  test("comes at once over gRPC, and so does the next when this one is acknowledged", async () => {
    await using agent = dial(replicas.a.grpcPort);
    agent.connect("vm-grpc", { incarnation: "i-1", migletState: "idle" });
    await agent.next("connect_ack");
    const first = await order("vm-grpc");
    expect((await agent.next("command")).command.id).toBe(first);
    // Not before: a newer one of this type takes the place of one that still waits.
    const second = await order("vm-grpc", "info");
    // The acknowledgement goes to the other replica, as one by POST may.
    await call(`${replicas.b.url}/api/v1/vms/vm-grpc/commands/${first}/ack`, { json: { success: true } });
    expect((await agent.next("command")).command.id).toBe(second);
  });

  test("comes at once over a WebSocket, event stream and held poll", async () => {
    await using socket = await dialWs(`${onA("vm-ws")}/commands/ws`);
    socket.connect("vm-ws", { incarnation: "i-1", miglet_state: "idle" });
    await socket.next("connect_ack");
    const socketId = await order("vm-ws");
    expect(await socket.next("command")).toMatchObject({ id: socketId });

    await using stream = await dialSse(`${onA("vm-sse")}/commands/stream?${about}`);
    await stream.next("connect_ack");
    const streamId = await order("vm-sse");
    expect((await stream.next("command")).id).toBe(streamId);

    const held = call(`${onA("vm-poll")}/commands?wait=20s&incarnation=i-1&miglet_state=idle`);
    await waitFor("the poll", () => replicas.a.real.registry.get("vm-poll"));
    const pollId = await order("vm-poll");
    expect((await held).body.commands).toMatchObject([{ id: pollId }]);
  });

  test("a VM that connects to another replica is gone from the first at once", async () => {
    await using first = dial(replicas.a.grpcPort);
    first.connect("vm-moves", { incarnation: "i-1", migletState: "idle" });
    await first.next("connect_ack");
    await using second = dial(replicas.b.grpcPort);
    second.connect("vm-moves", { incarnation: "i-1", migletState: "idle" });
    await second.next("connect_ack");
    expect((await first.next("go_away")).goAway.reason).toBe("superseded");
    expect(replicas.a.real.registry.get("vm-moves")).toBeUndefined();
  });

  test("what is rolled back is not told", async () => {
    const heard: string[] = [];
    const [a, b] = replicas.stores;
    const stop = a?.wakes.hear((vmIds) => heard.push(...vmIds));
    await b
      ?.transact(async (tx) => {
        await b.wakes.announce(tx, ["vm-undone"]);
        throw new Error("undone");
      })
      .catch(() => {});
    await b?.transact((tx) => b.wakes.announce(tx, ["vm-done"]));
    await waitFor("the note", () => heard.includes("vm-done"));
    stop?.();
    expect(heard).toEqual(["vm-done"]);
  });

  test("a listening connection that is cut is made again, and brings what came meanwhile", async () => {
    await using agent = dial(replicas.a.grpcPort);
    agent.connect("vm-cut", { incarnation: "i-1", migletState: "idle" });
    await agent.next("connect_ack");
    const before = await listeners();
    const [store] = replicas.stores;
    await store?.transact((tx) =>
      sql`select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()
        and application_name = 'mig-controller-wakes'`.execute(tx),
    );
    await waitFor("both to be gone", async () => (await listeners()).every((pid) => !before.includes(pid)));
    const meanwhile = await order("vm-cut");
    expect((await agent.next("command")).command.id).toBe(meanwhile);
    await waitFor("both to listen again", async () => (await listeners()).length === 2);
    agent.answer({ commandId: meanwhile, success: true });
    const after = await order("vm-cut");
    expect((await agent.next("command")).command.id).toBe(after);
  });
});
