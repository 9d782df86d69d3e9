/**
 * How long a command takes that an operator makes on replica B, to a VM that is connected to replica A.
 *
 *   DATABASE_URL=postgres://… node --conditions=mig-source bench/command-latency.ts [--quick]
 *
 * Two controller processes on one new database. The time runs from sending the POST to B until the VM's client has the
 * command: authorization, transaction, audit entry, notification, delivery with a transaction of its own. Once idle, and
 * once while 1,000 more VMs are connected to A and send 10,000 events a minute. Beside it, from the same run: a bare
 * round trip of the same transport to a process that only answers (for event streams and polls: a request). `post` is how long the POST itself took.
 */
import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pause, waitFor } from "@mig/kit";
import { freePort } from "@mig/sandbox";
import pg from "pg";
import { type Spawned, spawnProgram, stopAll } from "../tests/lib/spawn.ts";
import { bareRoundTrips } from "./lib/bare-echo.ts";
import { type Channel, channels, openClient, openPoster } from "./lib/command-client.ts";

const isQuick = process.argv.includes("--quick");
const samples = isQuick ? 60 : 400;
const crowd = isQuick ? 200 : 1_000;
const eventsPerMinute = isQuick ? 2_000 : 10_000;
const serverUrl = process.env["DATABASE_URL"] ?? "postgres://postgres@127.0.0.1:5432/postgres";

const dir = await mkdtemp(join(tmpdir(), "mig-bench-"));
const database = `mig_bench_${randomBytes(4).toString("hex")}`;
await onServer(`create database ${database}`);
try {
  await measure();
} finally {
  await stopAll();
  await onServer(`drop database ${database} with (force)`);
  await rm(dir, { recursive: true, force: true });
}

async function measure(): Promise<void> {
  const [a, b] = [await startController("a"), await startController("b")];
  const bare = await bareRoundTrips(samples);
  const commits = await bareCommits();
  console.log(`${samples} commands a channel; all times in ms`);
  console.log(
    `bare begin, insert, commit on this server: p50 ${at(commits, 0.5).toFixed(2)}, p99 ${at(commits, 0.99).toFixed(2)}; a command waits for two of them, its order and its delivery`,
  );
  console.log(
    "load  channel       p50    p99   post p50   bare p50   bare p99   ratio p50   goal (p99 < 50, ratio < 10)",
  );
  for (const channel of channels)
    report("idle", channel, await timesOf(channel, "idle", a, b), bare[channel]);
  const load = spawnProgram("bench/lib/crowd.ts", [a, String(crowd), String(eventsPerMinute)], {
    NODE_OPTIONS: "--conditions=mig-source",
  });
  await load.says("connected", 120_000);
  for (const channel of channels)
    report("busy", channel, await timesOf(channel, "busy", a, b), bare[channel]);
  await stopLoad(load);
}

/** What it costs here to write anything durably: no order and no delivery can be faster. */
async function bareCommits(): Promise<number[]> {
  const url = new URL(serverUrl);
  url.pathname = `/${database}`;
  const client = new pg.Client({ connectionString: url.href });
  await client.connect();
  await client.query("create table bare (body text)");
  const times: number[] = [];
  for (let n = -20; n < samples; n += 1) {
    await pause(2);
    const startMs = performance.now();
    await client.query("begin");
    await client.query("insert into bare values ($1)", ["x".repeat(200)]);
    await client.query("commit");
    if (n >= 0) times.push(performance.now() - startMs);
  }
  await client.end();
  return times;
}

interface Times {
  all: number[];
  post: number[];
}

async function timesOf(channel: Channel, load: string, a: string, b: string): Promise<Times> {
  const vmId = `bench-${load}-${channel}`;
  const client = await openClient(channel, a, vmId);
  const [toA, toB] = [openPoster(a), openPoster(b)];
  const times: Times = { all: [], post: [] };
  const warmUp = 20;
  try {
    for (let n = -warmUp; n < samples; n += 1) {
      const arrived = client.next();
      // A poll has to be held before there is something to hold it for.
      await pause(channel === "poll" ? 20 : 2);
      const startMs = performance.now();
      const posted = toB
        .post(`/api/v1/vms/${vmId}/commands`, { type: "set_log_level", parameters: { level: "debug" } })
        .then(() => performance.now() - startMs);
      const { id, atMs } = await arrived;
      const postMs = await posted;
      if (n >= 0) {
        times.all.push(atMs - startMs);
        times.post.push(postMs);
      }
      await toA.post(`/api/v1/vms/${vmId}/commands/${id}/ack`, { success: true });
    }
  } finally {
    client.close();
    toA.close();
    toB.close();
  }
  return times;
}

function report(load: string, channel: Channel, { all, post }: Times, bare: number[]): void {
  const [p50, p99, bare50] = [at(all, 0.5), at(all, 0.99), at(bare, 0.5)];
  const ratio = p50 / bare50;
  const verdict = `${p99 < 50 ? "p99 met" : "p99 MISSED"}, ${ratio < 10 ? "ratio met" : "ratio MISSED"}`;
  const cells = [p50, p99, at(post, 0.5), bare50, at(bare, 0.99), ratio].map((value, i) =>
    value.toFixed(i === 5 ? 1 : 2).padStart([6, 7, 11, 11, 11, 12][i] ?? 8),
  );
  console.log(`${load.padEnd(5)} ${channel.padEnd(10)}${cells.join("")}   ${verdict}`);
}

function at(times: number[], share: number): number {
  const sorted = [...times].sort((x, y) => x - y);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

/** Both have the same master key: replicas share it. */
async function startController(name: string): Promise<string> {
  const port = await freePort();
  const url = new URL(serverUrl);
  url.pathname = `/${database}`;
  const config = {
    limits: { unknown_per_second: 100_000, connections_per_second: 100_000 },
  };
  await writeFile(join(dir, `${name}.yaml`), JSON.stringify(config));
  const controller = spawnProgram("apps/controller/bin/mig-controller.js", [
    ...["--dev", "--listen", `127.0.0.1:${port}`, "--grpc-listen", "off"],
    ...["--config", join(dir, `${name}.yaml`), "--data-dir", join(dir, "data"), "--database-url", url.href],
  ]);
  const http = `http://127.0.0.1:${port}`;
  await waitFor(
    "the controller",
    () => {
      if (controller.exitCode() !== undefined) throw new Error(JSON.stringify(controller.lines.at(-1)));
      return fetch(`${http}/livez`).then((answer) => answer.ok);
    },
    { timeoutMs: 20_000 },
  );
  return http;
}

async function stopLoad(load: Spawned): Promise<void> {
  load.kill("SIGTERM");
  await load.ended();
  for (const line of load.lines)
    if (line["msg"] === "sent") console.log(`the crowd: ${JSON.stringify(line)}`);
}

async function onServer(statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: serverUrl });
  await client.connect();
  await client.query(statement);
  await client.end();
}
