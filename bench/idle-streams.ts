/**
 * What an idle stream costs a controller in memory.
 *
 *   node --conditions=mig-source bench/idle-streams.ts [--streams 5000]     on PGlite
 *   DATABASE_URL=postgres://… node --conditions=mig-source bench/idle-streams.ts
 *
 * As many VMs connect over gRPC, each on a connection of its own as agents do, and say nothing more. Memory is that of
 * the server process (RSS), before the first and after the last has been connected for a while, divided by the streams.
 * Beside it, in the same run, the same clients at a bare grpc-js server that takes the stream, answers the first
 * message and keeps nothing. Goal: at most twice as much. Needs as many open files as streams in each process.
 */
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pause, waitFor } from "@mig/kit";
import { freePort } from "@mig/sandbox";
import pg from "pg";
import { spawnProgram, stopAll } from "../tests/lib/spawn.ts";

const asked = process.argv.indexOf("--streams");
const streams = asked < 0 ? 5_000 : Number(process.argv[asked + 1]);
const source = { NODE_OPTIONS: "--conditions=mig-source" };
const databaseUrl = process.env["DATABASE_URL"];
const database = `mig_bench_${randomBytes(4).toString("hex")}`;
const dir = await mkdtemp(join(tmpdir(), "mig-bench-"));
if (databaseUrl !== undefined) await onServer(`create database ${database}`);
try {
  const bare = await perStream(await startBare());
  const ours = await perStream(await startController());
  const ratio = ours / bare;
  console.log(`${streams} idle gRPC streams, ${databaseUrl === undefined ? "PGlite" : "PostgreSQL"}`);
  console.log(`bare grpc-js server   ${bare.toFixed(1).padStart(7)} KiB a stream`);
  console.log(`mig-controller        ${ours.toFixed(1).padStart(7)} KiB a stream`);
  console.log(`ratio ${ratio.toFixed(2)}; goal 2.00 ${ratio <= 2 ? "met" : "MISSED"}`);
} finally {
  await stopAll();
  if (databaseUrl !== undefined) await onServer(`drop database ${database} with (force)`);
  await rm(dir, { recursive: true, force: true });
}

/** KiB that the server grows by for each stream. */
async function perStream({ pid, port }: { pid: number; port: number }): Promise<number> {
  // A few first, for what is made once.
  const first = spawnProgram("bench/lib/idle-clients.ts", [String(port), "50", "warm"], source);
  await first.says("connected", 60_000);
  first.kill("SIGKILL");
  await first.ended();
  await pause(3_000);
  const beforeKib = await rssKib(pid);
  const clients = spawnProgram("bench/lib/idle-clients.ts", [String(port), String(streams), "idle"], source);
  await clients.says("connected", 300_000);
  // Longer than the garbage collector needs to find that they are idle, and than a sweep.
  await pause(5_000);
  const afterKib = await rssKib(pid);
  clients.kill("SIGKILL");
  await clients.ended();
  process.kill(pid, "SIGKILL");
  return (afterKib - beforeKib) / streams;
}

async function rssKib(pid: number): Promise<number> {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(await readFile(`/proc/${pid}/status`, "utf8"))?.[1]);
}

async function startBare(): Promise<{ pid: number; port: number }> {
  const [port, httpPort] = [await freePort(), await freePort()];
  const server = spawnProgram("bench/lib/bare-echo.ts", [String(port), String(httpPort)], source);
  await server.says("bare");
  return { pid: server.pid, port };
}

async function startController(): Promise<{ pid: number; port: number }> {
  const port = await freePort();
  const limits = { unknown_per_second: 100_000, connections_per_second: 100_000 };
  await writeFile(join(dir, "mig.yaml"), JSON.stringify({ limits }));
  const url = new URL(databaseUrl ?? "postgres://127.0.0.1");
  url.pathname = `/${database}`;
  const controller = spawnProgram("apps/controller/bin/mig-controller.js", [
    ...["--dev", "--listen", `127.0.0.1:${port}`, "--grpc-listen", "off", "--data-dir", join(dir, "data")],
    ...["--config", join(dir, "mig.yaml"), "--connections-max", String(streams + 1_000)],
    ...(databaseUrl === undefined ? [] : ["--database-url", url.href]),
  ]);
  await waitFor(
    "the controller",
    () => {
      if (controller.exitCode() !== undefined) throw new Error(JSON.stringify(controller.lines.slice(-3)));
      return fetch(`http://127.0.0.1:${port}/livez`).then((answer) => answer.ok);
    },
    { timeoutMs: 40_000 },
  );
  return { pid: controller.pid, port };
}

async function onServer(statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  await client.query(statement);
  await client.end();
}
