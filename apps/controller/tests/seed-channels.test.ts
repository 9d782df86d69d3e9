import { waitFor } from "@mig/kit";
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { dialSse } from "./dial-sse.ts";
import { dialWs } from "./dial-ws.ts";
import { call, openTestListeners, type TestListeners } from "./open-test-listeners.ts";

/** The calls of seed 003, as its example code makes them: no greeting, commands at the top level, short answers. */
let mig: TestListeners;
beforeAll(async () => {
  mig = await openTestListeners();
});
afterAll(() => mig[Symbol.asyncDispose]());

const vm = (vmId: string): string => `${mig.url}/api/v1/vms/${vmId}`;
const order = async (vmId: string, type: string): Promise<string> =>
  (await call(`${vm(vmId)}/commands`, { json: { type, parameters: { level: "debug" } } })).body.id;
const commandState = async (id: string): Promise<string> => {
  const found = await mig.real.store.transact((tx) =>
    sql<{ state: string }>`select state from commands where id = ${id}`.execute(tx),
  );
  return found.rows[0]?.state ?? "";
};

describe("option 1, WebSocket", () => {
  test.each(["commands", "commands/ws"])(
    "…/%s: ReadJSON a command, WriteJSON {command_id, status}",
    async (path) => {
      const vmId = `vm-ws-${path.length}`;
      const first = await order(vmId, "set_log_level");
      await using socket = await dialWs(`${vm(vmId)}/${path}`, { isSeed: true });
      const [command] = await waitFor("a command", () =>
        socket.heard.length > 0 ? socket.heard : undefined,
      );
      expect(command).toMatchObject({
        id: first,
        type: "set_log_level",
        command: "set_log_level",
        parameters: { level: "debug" },
        created_at: expect.any(String),
      });
      socket.say({ command_id: first, status: "processed" });
      await waitFor("the command to be done", async () => (await commandState(first)) === "succeeded");
      const second = await order(vmId, "set_log_level");
      await waitFor("the next one", () => socket.heard[1]?.["id"] === second);
      socket.say({ command_id: second, status: "failed" });
      await waitFor("the command to have failed", async () => (await commandState(second)) === "failed");
    },
  );

  test("phase 2: events and heartbeats on the socket; nothing but commands comes back", async () => {
    await using socket = await dialWs(`${vm("vm-ws-2")}/commands`, { isSeed: true });
    socket.say({ kind: "event", type: "vm_started", pool_id: "p" });
    await waitFor("the event", async () => (await mig.real.desk.findVm("vm-ws-2")).poolId === "p");
    socket.say({ kind: "heartbeat", miglet_state: "ready", runner_state: "idle" });
    await waitFor("a command", () => socket.heard.length > 0);
    socket.say({ command_id: "nobody-knows", status: "processed" });
    socket.say({ kind: "heartbeat", vm_id: "another" });
    const view = await mig.real.desk.findVm("vm-ws-2");
    expect(view).toMatchObject({ poolId: "p", migletState: "ready", channel: "websocket" });
    expect(socket.heard).toMatchObject([
      { type: "register_runner", parameters: { runner_url: expect.any(String) } },
    ]);
  });
});

describe("option 2, server-sent events", () => {
  test("the bytes of …/commands/stream, and the answer by POST …/commands/ack", async () => {
    const first = await order("vm-sse", "set_log_level");
    await using stream = await dialSse(`${vm("vm-sse")}/commands/stream`);
    expect(stream.headers).toMatchObject({ "content-type": "text/event-stream; charset=utf-8" });
    expect(stream.headers["cache-control"]).toContain("no-store");
    // `scanner.Scan()`, `strings.HasPrefix(line, "data: ")`, `json.Unmarshal([]byte(line[6:]))`
    const dataLines = (): string[] =>
      stream
        .text()
        .split("\n")
        .filter((line) => line.startsWith("data: "));
    await waitFor("a command", () => dataLines().length === 1);
    expect(JSON.parse(dataLines()[0]?.slice(6) ?? "")).toMatchObject({
      id: first,
      type: "set_log_level",
      command: "set_log_level",
      parameters: { level: "debug" },
    });
    expect(stream.text()).toMatch(
      new RegExp(`^retry: \\d+\n\nevent: command\nid: ${first}\ndata: {.*}\n\n$`),
    );
    const ack = await call(`${vm("vm-sse")}/commands/ack`, {
      json: { command_id: first, status: "processed" },
    });
    expect(ack).toMatchObject({ status: 200, body: { command_state: "succeeded" } });
    const second = await order("vm-sse", "set_log_level");
    await waitFor("the next one", () => dataLines().some((line) => line.includes(second)));
    expect(dataLines()).toHaveLength(2);
  });
});
