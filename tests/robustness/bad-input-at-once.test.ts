import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "@mig/sandbox";
import { afterAll, beforeAll, expect, it } from "vitest";
import {
  askGrpc,
  askHttp,
  grpcCases,
  httpCases,
  resetRapidly,
} from "../../apps/controller/tests/bad-input-cases.ts";
import { call } from "../../apps/controller/tests/open-test-listeners.ts";
import { furnish } from "../../apps/controller/tests/pglite-template.ts";
import { startSlowClients } from "../lib/slow-clients.ts";
import { type Spawned, spawnProgram, stopAll } from "../lib/spawn.ts";

/** Everything of the bad-input list at one controller process, together (issue 5): it lives, answers and stays small. */
const rounds = 3;
/** A leak of one answer or one body for each case would be several times as much. */
const grownMbMax = 300;
let dir: string;
let port: number;
let controller: Spawned;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "mig-bad-"));
  port = await freePort();
  await furnish(join(dir, "data"));
  controller = spawnProgram("apps/controller/bin/mig-controller.js", [
    ...["--dev", "--log-format", "json", "--listen", `127.0.0.1:${port}`, "--grpc-listen", "off"],
    ...["--data-dir", join(dir, "data"), "--connection-timeout", "1s"],
    ...["--limits-connections-per-second", "10000"],
  ]);
  await controller.says("the controller is ready", 40_000);
});
afterAll(async () => {
  await stopAll();
  await rm(dir, { recursive: true, force: true });
});

it("survives all of it at once, and answers the next heartbeat", async () => {
  const beat = () => call(`http://127.0.0.1:${port}/api/v1/vms/vm-good/heartbeat`, { json: {} });
  expect((await beat()).status).toBe(200);
  const beforeMb = await rssMb(controller.pid);
  const slow = startSlowClients({ port, connections: 60, rampMax: 60, byteEveryMs: 100 });
  const statuses: number[] = [];
  try {
    for (let round = 0; round < rounds; round += 1) {
      // What each of them is answered is for bad-input.test.ts: here some are cut because there are so many.
      await Promise.allSettled([
        ...httpCases.map((one) => askHttp(port, one)),
        ...grpcCases.map((one) => askGrpc(port, one)),
        ...[1, 2, 3].map(() => resetRapidly(port, 2_000)),
        beat().then(({ status }) => statuses.push(status)),
      ]);
    }
  } finally {
    slow.stop();
  }
  expect(controller.exitCode()).toBeUndefined();
  expect(statuses).toEqual(Array.from({ length: rounds }, () => 200));
  expect((await beat()).status).toBe(200);
  expect((await rssMb(controller.pid)) - beforeMb).toBeLessThan(grownMbMax);
  // None of it was a fault of ours.
  expect(
    controller.lines.filter(({ level, msg }) => level === "error" || msg === "a request failed"),
  ).toEqual([]);
});

async function rssMb(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024;
}
