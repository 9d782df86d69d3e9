import { execFile, spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs, promisify } from "node:util";
import { pause, waitFor } from "@mig/kit";
import { type House, openHouse, type Vm } from "../tests/lib/house.ts";

/**
 * What the agent costs on a VM, beside the bare runtime in the same run: resident memory (of which its own: anonymous),
 * time from exec to an open channel, CPU while it waits, under load and after a longer life of heartbeats and jobs.
 *
 *   node --conditions=mig-source bench/agent-footprint.ts [--channel grpc] [--tls] [--minutes 0] [--json]
 *
 * On loopback; over gRPC without TLS unless it is told otherwise. "Load" is twenty commands a second, each acknowledged, journalled and answered;
 * "long", only when asked for, is `--minutes` of jobs one after another on a VM that registers again after each, with a beat a second.
 */
const { values } = parseArgs({
  options: {
    channel: { type: "string", default: "grpc" },
    tls: { type: "boolean", default: false },
    minutes: { type: "string", default: "0" },
    json: { type: "boolean" },
  },
});
const root = fileURLToPath(new URL("..", import.meta.url));
const bun = join(root, "node_modules/@oven/bun-linux-x64/bin/bun");
const scratch = await mkdtemp(join(tmpdir(), "mig-footprint-"));

interface Memory {
  rss: number;
  pss: number;
  anonymous: number;
}
interface Row extends Partial<Memory> {
  what: string;
  startMs?: number;
  idleCpuPerMinute?: number;
  load?: Memory;
  loadCpuPercent?: number;
  long?: Memory;
  jobs?: number;
}
const rows: Row[] = [];

try {
  await promisify(execFile)(process.execPath, [
    join(root, "apps/miglet/scripts/package.mjs"),
    ...["--target", "linux-x64", "--out", scratch],
  ]);
  const wait = "setInterval(() => {}, 1000)";
  rows.push({ what: "bare Node 24", ...(await bare(process.execPath, ["-e", wait])) });
  rows.push({ what: "bare Bun", ...(await bare(bun, ["-e", wait])) });
  rows.push(await agent("agent on Node 24", undefined));
  rows.push(await agent("agent, shipped executable", join(scratch, "miglet-linux-x64")));
  if (values.json === true) console.log(JSON.stringify(rows, null, 2));
  else show();
} finally {
  await rm(scratch, { recursive: true, force: true });
}

async function bare(program: string, args: string[]): Promise<Memory> {
  const child = spawn(program, args, { stdio: "ignore" });
  await pause(3_000);
  const memory = await memoryOf(child.pid ?? 0);
  child.kill("SIGKILL");
  return memory;
}

async function agent(what: string, program: string | undefined): Promise<Row> {
  await using house = await openHouse({
    tls: values.tls,
    ...(program === undefined ? {} : { agent: { program } }),
  });
  const beganAtMs = performance.now();
  const vm = await house.startVm("vm-1", {
    channel: values.channel,
    settings: ["limits: { idle_timeout: 0s }"],
  });
  await vm.agent.says("A channel to the controller is open.");
  const startMs = performance.now() - beganAtMs;
  await house.until("vm-1", "state", "idle");
  const { pid } = vm.agent;
  const cpuBefore = await cpuSeconds(pid);
  await pause(20_000);
  const idleCpuPerMinute = ((await cpuSeconds(pid)) - cpuBefore) * 3;
  const idle = await memoryOf(pid);
  const loadBefore = await cpuSeconds(pid);
  await command(house, 20, 15_000);
  const loadCpuPercent = (((await cpuSeconds(pid)) - loadBefore) / 15) * 100;
  const load = await memoryOf(pid);
  const long = Number(values.minutes) > 0 ? await liveLong(house, Number(values.minutes)) : {};
  return { what, ...idle, startMs, idleCpuPerMinute, load, loadCpuPercent, ...long };
}

async function command(house: House, perSecond: number, forMs: number): Promise<void> {
  for (let n = 0; n < (forMs / 1000) * perSecond; n += 1) {
    await house.order("vm-1", "set_log_level", { level: n % 2 === 0 ? "warn" : "info" });
    await pause(1000 / perSecond);
  }
}

async function liveLong(house: House, minutes: number): Promise<{ long: Memory; jobs: number }> {
  const vm: Vm = await house.startVm("vm-2", {
    channel: values.channel,
    settings: ["limits: { idle_timeout: 0s }"],
    reuse: true,
  });
  const untilMs = performance.now() + minutes * 60_000;
  let jobs = 0;
  while (performance.now() < untilMs) {
    const job = await house.github.queueJob({ overrides: { durationMs: 50 } });
    await waitFor("the job to end", async () => (await house.github.job(job.id))?.status === "completed", {
      timeoutMs: 60_000,
    });
    jobs += 1;
  }
  return { long: await memoryOf(vm.agent.pid), jobs };
}

async function memoryOf(pid: number): Promise<Memory> {
  const text = await readFile(`/proc/${pid}/smaps_rollup`, "utf8");
  const read = (name: string): number =>
    Math.round(Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(text)?.[1] ?? 0) / 1024);
  return { rss: read("Rss"), pss: read("Pss"), anonymous: read("Anonymous") };
}

async function cpuSeconds(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

function show(): void {
  const floors = { node: rows[0]?.rss ?? 1, bun: rows[1]?.rss ?? 1 };
  const mb = (memory: Partial<Memory> | undefined): string =>
    memory?.rss === undefined ? "-" : `${memory.rss} (${memory.anonymous} own)`;
  console.log(
    "MB resident               idle          load          long          start    idle CPU/min  load CPU",
  );
  for (const row of rows) {
    const floor = row.what.includes("Node") ? floors.node : floors.bun;
    const ratio = `${((row.rss ?? 0) / floor).toFixed(2)}× bare`;
    console.log(
      [
        row.what.padEnd(26),
        mb(row).padEnd(14),
        mb(row.load).padEnd(14),
        mb(row.long).padEnd(14),
        (row.startMs === undefined ? "-" : `${Math.round(row.startMs)} ms`).padEnd(9),
        (row.idleCpuPerMinute === undefined ? "-" : `${row.idleCpuPerMinute.toFixed(2)} s`).padEnd(14),
        (row.loadCpuPercent === undefined ? "-" : `${row.loadCpuPercent.toFixed(1)} %`).padEnd(10),
        ratio,
        row.jobs === undefined ? "" : `${row.jobs} jobs`,
      ].join(""),
    );
  }
}
