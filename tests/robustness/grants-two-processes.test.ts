import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { pause, waitFor } from "@mig/kit";
import { asObject, readNumber, readText, type Unknown } from "@mig/protocol";
import { createAppKey, freePort, type Github, startGithub } from "@mig/sandbox";
import pg from "pg";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Spawned, spawnProgram, stopAll } from "../lib/spawn.ts";

/**
 * A thousand VMs at once, as after an outage, over HTTP through two controller processes on one PostgreSQL, while
 * GitHub wants to be left alone for three seconds: what grants-crowd.test.ts holds for two lines in one process.
 */
const serverUrl = process.env["MIG_TEST_DATABASE_URL"] ?? "postgres://postgres@127.0.0.1:5432/postgres";
const available = await run(serverUrl, "select 1").then(
  () => true,
  () => false,
);
if (!available && process.env["MIG_TEST_REQUIRE_SERVERS"] === "1")
  throw new Error("no PostgreSQL server answers: set MIG_TEST_DATABASE_URL");

const perMinute = 3_600;
/** A few that are on their way are not yet a faster pace. */
const burstMax = 16;
const sizes = [600, 250, 100, 40, 10];
const vms = sizes.flatMap((size, p) =>
  Array.from({ length: size }, (_, i) => ({ poolId: `pool-${p}`, vmId: `pool-${p}-vm-${i}` })),
);

let dir: string;
let github: Github;
let name: string;
let databaseUrl: string;
let controllers: { url: string; program: Spawned }[];

async function run(url: string, statement: string): Promise<Unknown[]> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 });
  await client.connect();
  try {
    return (await client.query<Unknown>(statement)).rows;
  } finally {
    await client.end();
  }
}

async function startController(): Promise<{ url: string; program: Spawned }> {
  const [port, grpcPort] = [await freePort(), await freePort()];
  const url = `http://127.0.0.1:${port}`;
  const program = spawnProgram("apps/controller/bin/mig-controller.js", [
    ...["--listen", `127.0.0.1:${port}`, "--grpc-listen", `127.0.0.1:${grpcPort}`, "--log-format", "json"],
    ...["--data-dir", join(dir, "data"), "--database-url", databaseUrl],
    ...["--dev", "--config", join(dir, "controller.yaml")],
  ]);
  await waitFor(
    "the controller to answer",
    () => {
      if (program.exitCode() !== undefined) throw new Error(JSON.stringify(program.lines.at(-1)));
      return fetch(`${url}/livez`).then((answer) => answer.ok);
    },
    { timeoutMs: 40_000 },
  );
  return { url, program };
}

const urlOf = (n: number): string => controllers[n % controllers.length]?.url ?? "";

interface Vm {
  vmId: string;
  poolId: string;
}

async function ask(url: string, { vmId }: Vm, path: string, body: object) {
  const answer = await fetch(`${url}/api/v1/vms/${vmId}/${path}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  const said: Unknown = asObject(await answer.json()) ?? {};
  return { http: answer.status, afterS: answer.headers.get("retry-after"), body: said };
}

async function startVm(url: string, vm: Vm): Promise<void> {
  const { http, body } = await ask(url, vm, "events", {
    type: "vm_started",
    pool_id: vm.poolId,
    org_id: "acme",
    incarnation: "b1",
    seq: 1,
    event_id: `${vm.vmId}-1`,
  });
  expect(http, JSON.stringify(body)).toBe(200);
}

interface Told {
  vmId: string;
  atMs: number;
  etaMs: number;
  heldMs: number;
}

/** As an agent does: who is told a time comes back then, and perhaps to the other process. */
async function register(vm: Vm, n: number, told: Told[]): Promise<string> {
  for (let nth = 0; ; nth += 1) {
    const url = urlOf(n + nth);
    const askedAtMs = Date.now();
    const { http, afterS, body } = await ask(url, vm, "registration-token", {});
    if (http === 200) return readText(body, "runner_name") ?? "";
    const error = asObject(body["error"]) ?? {};
    const etaMs = readNumber(error, "retry_after_ms") ?? 0;
    expect(http, JSON.stringify(body)).toBe(503);
    expect(readText(error, "code")).toBe("github_rate_limited");
    expect(etaMs).toBeGreaterThanOrEqual(1_000);
    expect(Number(afterS)).toBe(Math.ceil(etaMs / 1000));
    const atMs = Date.now();
    told.push({ vmId: vm.vmId, atMs, etaMs, heldMs: atMs - askedAtMs });
    await pause(etaMs);
  }
}

describe.skipIf(!available)("a crowd through two controller processes on PostgreSQL", () => {
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), "mig-crowd-"));
    name = `mig_test_${randomBytes(6).toString("hex")}`;
    await run(serverUrl, `create database ${name}`);
    const url = new URL(serverUrl);
    url.pathname = `/${name}`;
    databaseUrl = url.href;
    const key = createAppKey();
    github = await startGithub({ publicKeyPem: key.publicKeyPem });
    const keyPath = join(dir, "app.pem");
    await writeFile(keyPath, key.privateKeyPem, { mode: 0o600 });
    const app = {
      id: "acme",
      app_id: github.appId,
      api_url: github.url,
      key: pathToFileURL(keyPath).href,
      pace: { start: perMinute, max: perMinute },
    };
    const pool = { runner_url: `${github.webUrl}/acme`, runner_group: "Default", labels: ["self-hosted"] };
    const config = {
      pools: sizes.map((_, p) => ({ id: `pool-${p}`, ...pool, registration: "jit" })),
      github: { apps: [app] },
    };
    await writeFile(join(dir, "controller.yaml"), JSON.stringify(config));
    controllers = [await startController(), await startController()];
  }, 60_000);
  afterEach(async () => {
    await stopAll();
    await github.close();
    await run(serverUrl, `drop database ${name} with (force)`);
    await rm(dir, { recursive: true, force: true });
  });

  it("gets one runner each, in turns, at the pace of one, after GitHub's pause, and is told when", async () => {
    await inLanes(vms, 32, (vm, n) => startVm(urlOf(n), vm));
    // The hour is used up for three seconds, which is no reason to be slower than before.
    const headers = { "retry-after": "3", "x-ratelimit-remaining": "0" };
    await github.addFault({ path: "jitconfig", status: 429, headers });
    const told: Told[] = [];
    const names = await Promise.all(vms.map((vm, n) => register(vm, n, told)));

    // No VM twice: not at us, not at GitHub (T1).
    const runners = await github.runners();
    expect(new Set(names).size).toBe(vms.length);
    expect(runners.map((runner) => runner.name).sort()).toEqual([...names].sort());
    // Both processes made them, or this says nothing.
    for (const { program } of controllers)
      expect(program.lines.filter((line) => line["msg"] === "a grant was made").length).toBeGreaterThan(100);
    // Nobody before the end of the Retry-After (T2), whichever process heard it.
    const traffic = await github.traffic();
    expect(traffic.limited).toBe(1);
    expect(traffic.tooEarly).toBe(0);
    // Both together are not faster than the pace, in whichever window.
    const calls = (await github.requests()).filter(({ path }) => path.endsWith("/generate-jitconfig"));
    const at = calls.map((call) => Date.parse(call.at)).sort((a, b) => a - b);
    for (const windowMs of [1_000, 5_000, 60_000])
      expect(mostWithin(at, windowMs)).toBeLessThanOrEqual((perMinute * windowMs) / 60_000 + burstMax);
    // Pools take turns while they have somebody waiting, however long their lines are.
    const rows = await run(
      databaseUrl,
      "select vm_id, pool_id, (extract(epoch from made_at) * 1000)::float8 as at from grants order by made_at, id",
    );
    expect(jain(servedWhileAllWait(rows))).toBeGreaterThanOrEqual(0.95);
    // Whoever waits is told when, after the five seconds that a request is held; and it is true within 20 % or a second.
    expect(told.length).toBeGreaterThan(vms.length / 2);
    expect(Math.max(...told.map(({ heldMs }) => heldMs))).toBeLessThan(10_000);
    const madeAtMs = new Map(rows.map((row) => [row["vm_id"], Number(row["at"])]));
    const wrong = told.filter(({ vmId, atMs, etaMs }) => {
      const realMs = (madeAtMs.get(vmId) ?? 0) - atMs;
      return Math.abs(etaMs - realMs) > Math.max(1_000, 0.2 * realMs);
    });
    expect(wrong.length, JSON.stringify(wrong.slice(0, 20))).toBeLessThanOrEqual(told.length / 10);
  }, 60_000);
});

async function inLanes<T>(all: readonly T[], lanes: number, work: (one: T, n: number) => Promise<void>) {
  let next = 0;
  const lane = async (): Promise<void> => {
    for (let n = next++; n < all.length; n = next++) await work(all[n] as T, n);
  };
  await Promise.all(Array.from({ length: lanes }, lane));
}

/** How many each pool got until the first one had nobody left. */
function servedWhileAllWait(rows: readonly Unknown[]): number[] {
  const served = sizes.map(() => 0);
  for (const row of rows) {
    const p = Number(String(row["pool_id"]).slice("pool-".length));
    served[p] = (served[p] ?? 0) + 1;
    if (served[p] === sizes[p]) break;
  }
  return served;
}

/** Jain's index of fairness: 1 when all have the same. */
function jain(shares: readonly number[]): number {
  const sum = shares.reduce((a, b) => a + b, 0);
  return sum ** 2 / (shares.length * shares.reduce((a, b) => a + b ** 2, 0));
}

function mostWithin(at: readonly number[], windowMs: number): number {
  let most = 0;
  for (let from = 0, to = 0; to < at.length; to += 1) {
    while ((at[to] ?? 0) - (at[from] ?? 0) >= windowMs) from += 1;
    most = Math.max(most, to - from + 1);
  }
  return most;
}
