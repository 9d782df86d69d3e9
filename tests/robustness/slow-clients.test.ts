import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { waitFor } from "@mig/kit";
import { freePort } from "@mig/sandbox";
import { afterAll, beforeAll, expect, it } from "vitest";
import { call } from "../../apps/controller/tests/open-test-listeners.ts";
import { furnish } from "../../apps/controller/tests/pglite-template.ts";
import { startSlowClients } from "../lib/slow-clients.ts";
import { type Spawned, spawnProgram, stopAll } from "../lib/spawn.ts";

/** The short form of bench/slow-clients.ts, which has 2,000 of them and the milliseconds. */
const connections = 201;
const each = connections / 3;
let dir: string;
let port: number;
let controller: Spawned;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "mig-slow-"));
  port = await freePort();
  await furnish(join(dir, "data"));
  controller = spawnProgram("apps/controller/bin/mig-controller.js", [
    ...[
      "--dev",
      "--log-format",
      "json",
      "--listen",
      `127.0.0.1:${port}`,
      "--grpc-listen",
      "off",
      "--data-dir",
      join(dir, "data"),
    ],
    ...["--connection-timeout", "500ms", "--limits-connections-per-second", "10000"],
  ]);
  await controller.says("the controller is ready", 40_000);
});
afterAll(async () => {
  await stopAll();
  await rm(dir, { recursive: true, force: true });
});

it("200 slow connections are closed in time, and every heartbeat meanwhile is answered", async () => {
  const slow = startSlowClients({ port, connections, rampMax: connections, byteEveryMs: 100 });
  try {
    const statuses: number[] = [];
    await waitFor(
      "the slow heads and bodies to be closed",
      async () => {
        const reply = await call(`http://127.0.0.1:${port}/api/v1/vms/vm-1/heartbeat`, { json: {} });
        statuses.push(reply.status);
        const { head, body } = slow.counts().closed;
        return head === each && body === each;
      },
      { timeoutMs: 20_000 },
    );
    expect(new Set(statuses)).toEqual(new Set([200]));
    // Who reads nothing has longer: a peer behind a bad line is no attacker. It costs what the kernel holds.
    expect(slow.counts()).toEqual({ open: each, closed: { head: each, body: each, read: 0 } });
  } finally {
    slow.stop();
  }
  expect((await call(`http://127.0.0.1:${port}/livez`)).status).toBe(200);
  expect(controller.exitCode()).toBeUndefined();
});
