import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { dial } from "./dial.ts";
import { call, openTestListeners, type TestListeners } from "./open-test-listeners.ts";

const agentToken = "agent-token-0123456789";
const operatorToken = "operator-token-0123456789";
const directory = mkdtempSync(join(tmpdir(), "mig-access-"));
let mig: TestListeners;

beforeAll(async () => {
  const file = (name: string, content: string): string => {
    writeFileSync(join(directory, name), content);
    return join(directory, name);
  };
  mig = await openTestListeners({
    flags: [
      ...[
        "--agent-token-file",
        file("agent", agentToken),
        "--operator-token-file",
        file("operator", operatorToken),
      ],
      ...["--github-app-id", "7", "--github-private-key-file", file("key", "-----BEGIN PRIVATE KEY-----")],
      ...[
        "--config",
        file(
          "mig.yaml",
          "runner_url: https://github.com/acme\npools: [{ id: old, legacy_agents: true }, { id: new }]\n",
        ),
      ],
    ],
  });
});
afterAll(async () => {
  await mig[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true, force: true });
});

test.each([
  [undefined, 401, 401],
  ["Bearer", 401, 401],
  ["Bearer ", 401, 401],
  ["Basic YTpi", 401, 401],
  ["Bearer wrong-token-0123456789", 401, 401],
  [`Bearer ${agentToken}x`, 401, 401],
  [`Bearer ${agentToken.slice(0, -1)}`, 401, 401],
  [`Bearer ${"x".repeat(5_000)}`, 401, 401],
  [`Bearer ${agentToken}`, 200, 403],
  [`bearer ${agentToken}`, 200, 403],
  [`Bearer ${operatorToken}`, 403, 200],
])("authorization %s: agents get %i, operators %i", async (authorization, agent, operator) => {
  const headers: Record<string, string> = authorization === undefined ? {} : { authorization };
  const beat = await call(`${mig.url}/api/v1/vms/vm-1/heartbeat`, { json: {}, headers });
  expect(beat.status).toBe(agent);
  expect((await call(`${mig.url}/api/v1/vms`, { headers })).status).toBe(operator);
  if (agent === 401) expect(beat.headers.get("www-authenticate")).toContain("Bearer");
});

test("who is not known is not listened to: the body is not even read", async () => {
  const reply = await call(`${mig.url}/api/v1/vms/vm-1/events`, { method: "POST", body: "not JSON" });
  expect(reply.status).toBe(401);
});

test("health is open, and nothing else that a token guards is", async () => {
  for (const path of ["/health", "/livez", "/readyz", "/api/v1/openapi.json", "/docs"]) {
    expect((await fetch(`${mig.url}${path}`)).status).toBe(200);
  }
});

test("a stream with the agents' token is served", async () => {
  await using agent = dial(mig.port, { authorization: `Bearer ${agentToken}` });
  agent.connect("vm-new", { poolId: "new" });
  expect(await agent.next("connect_ack")).toMatchObject({ reply: { accepted: true } });
});

test.each([
  ["without a token", undefined, "new", 16],
  ["with a wrong token", "Bearer wrong-token-0123456789", "old", 16],
  ["with the operators' token", `Bearer ${operatorToken}`, "new", 7],
])("a stream %s is refused", async (_, authorization, poolId, status) => {
  await using agent = dial(mig.port, authorization === undefined ? {} : { authorization });
  agent.connect("vm-refused", { poolId });
  expect(await agent.next("connect_ack")).toMatchObject({ reply: { accepted: false } });
  expect((await agent.ended).code).toBe(status);
});

test("an agent from before MIG needs no token in a pool that says so", async () => {
  await using agent = dial(mig.port);
  agent.connect("vm-old", { poolId: "old", protocolVersion: 0 });
  expect(await agent.next("connect_ack")).toMatchObject({ reply: { accepted: true } });
});

test("in another pool it is refused and its stream is kept, because it would come back at once", async () => {
  await using agent = dial(mig.port);
  agent.connect("vm-stray", { poolId: "new", protocolVersion: 0 });
  expect(await agent.next("connect_ack")).toMatchObject({ reply: { accepted: false } });
  agent.beat("vm-stray", { poolId: "new" });
  expect(await agent.isOpenAfterMs(300)).toBe(true);
  expect(agent.heard).toHaveLength(1);
});

test("a VM of a pool with credentials cannot be taken over by naming an old pool", async () => {
  await using owner = dial(mig.port, { authorization: `Bearer ${agentToken}` });
  owner.connect("vm-owned", { poolId: "new" });
  await owner.next("connect_ack");
  await using thief = dial(mig.port);
  thief.connect("vm-owned", { poolId: "old", protocolVersion: 0 });
  expect(await thief.next("connect_ack")).toMatchObject({ reply: { accepted: false } });
  thief.beat("vm-owned", { poolId: "old" });
  expect(await owner.isOpenAfterMs(200)).toBe(true);
  expect(mig.real.registry.get("vm-owned")?.epoch).toBe(1);
});
