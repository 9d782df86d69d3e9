import { createServer } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { silentLog } from "@mig/kit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createWsEdge } from "../src/listen/ws/ws-edge.ts";
import type { Desk } from "../src/session/desk.ts";
import { dialSse } from "./dial-sse.ts";
import { dialWs } from "./dial-ws.ts";
import { type IdentityLab, openIdentityLab } from "./identity-lab.ts";
import { call, openTestListeners } from "./open-test-listeners.ts";

/** Whose token opens which stream, what it may say there, and how long (the same guard as for every other route). */
let lab: IdentityLab;
const tokens: Record<string, string | undefined> = { nobody: undefined };
const stops: (() => Promise<void>)[] = [];
beforeAll(async () => {
  lab = await openIdentityLab({
    flags: ["--connection-timeout", "150ms"],
    atEnd: (stop) => void stops.push(stop),
  });
  for (const [vmId, poolId] of [
    ["vm-acme", "pool-a"],
    ["vm-other", "pool-b"],
    ["vm-revoked", "pool-a"],
    ["vm-revoked-too", "pool-a"],
  ] as const)
    tokens[vmId] = (await lab.machine(vmId).join(await lab.joinToken({ pool_id: poolId }))).body.access_token;
  tokens["operator"] = await lab.key({ role: "operator" });
});
afterAll(async () => {
  for (const stop of stops) await stop();
});

const as = (name: string): Record<string, string> =>
  tokens[name] === undefined ? {} : { authorization: `Bearer ${tokens[name]}` };
const at = (vmId: string, path: string): string => `${lab.url}/api/v1/vms/${vmId}/commands${path}`;

test.each([
  ["vm-acme", 200],
  ["vm-other", 403],
  ["operator", 403],
  ["nobody", 401],
])("%s at the streams of vm-acme: %d", async (name, status) => {
  const events = await call(at("vm-acme", "/stream?protocol_version=1"), { headers: as(name) });
  expect(events.status).toBe(status);
  for (const path of ["", "/ws"]) {
    const opened = dialWs(at("vm-acme", path), { headers: as(name) });
    if (status !== 200) {
      await expect(opened).rejects.toThrow(`${status}`);
      continue;
    }
    await using agent = await opened;
    agent.connect("vm-acme", { pool_id: "pool-a" });
    expect(await agent.next("connect_ack")).toMatchObject({ accepted: true });
  }
});

test("a VM says nothing of another pool or organization, on any stream", async () => {
  await using agent = await dialWs(at("vm-acme", "/ws"), { headers: as("vm-acme") });
  agent.connect("vm-acme", { pool_id: "" });
  await agent.next("connect_ack");
  for (const kind of ["event", "heartbeat"]) {
    agent.say({ kind, type: "error", pool_id: "pool-b" });
    expect(await agent.next("error")).toMatchObject({ code: "vm_mismatch" });
    agent.say({ kind, type: "error", org_id: "other" });
    expect(await agent.next("error")).toMatchObject({ code: "vm_mismatch" });
  }
  agent.connect("vm-acme", { pool_id: "pool-b" });
  expect(await agent.next("connect_ack")).toMatchObject({ accepted: false });
  expect(await agent.ended).toBe(4403);
  const stream = await call(at("vm-acme", "/stream?pool_id=pool-b"), { headers: as("vm-acme") });
  expect(stream).toMatchObject({ status: 403, body: { error: { code: "vm_mismatch" } } });
});

describe("an identity that is revoked while the stream is open ends it", () => {
  const revoke = (vmId: string) => lab.api("DELETE", `vms/${vmId}/identity`);

  test("WebSocket, with 4401", async () => {
    await using agent = await dialWs(at("vm-revoked", "/ws"), { headers: as("vm-revoked") });
    agent.connect("vm-revoked", { pool_id: "pool-a" });
    await agent.next("connect_ack");
    expect((await revoke("vm-revoked")).status).toBeLessThan(300);
    expect(await agent.ended).toBe(4401);
  });

  test("server-sent events", async () => {
    const url = at("vm-revoked-too", "/stream?protocol_version=1&pool_id=pool-a");
    await using stream = await dialSse(url, as("vm-revoked-too"));
    await stream.next("connect_ack");
    expect((await revoke("vm-revoked-too")).status).toBeLessThan(300);
    expect((await stream.next("go_away")).data).toMatchObject({ reason: "identity_revoked" });
    await stream.ended;
  });
});

test("before a token ends, the agent is told to come back with its new one", async () => {
  await using mig = await openTestListeners({ flags: ["--dev"] });
  const desk: Desk = mig.real.desk;
  const edge = createWsEdge({
    desk,
    log: silentLog,
    files: undefined,
    retryMs: 10,
    idleMs: 5_000,
    pingMs: 5_000,
  });
  const server = createServer();
  const standing = { own: <T>(said: T): T => said, recheck: async () => Date.now() + 50 };
  server.on("upgrade", (request, socket, head) =>
    edge.route(request, socket as Socket, head, (raw, response) =>
      edge.accept(raw, response, { vmId: "vm-1", standing }),
    ),
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    await using agent = await dialWs(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
    agent.connect("vm-1");
    expect(await agent.next("go_away")).toMatchObject({ reason: "token_expired" });
    expect(await agent.ended).toBe(4401);
  } finally {
    await edge.close(0);
    server.close();
  }
});
