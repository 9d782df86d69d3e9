import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createLog, silentLog, waitFor } from "@mig/kit";
import type { VmHealth } from "@mig/protocol";
import fc from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";
import { parseNetwork } from "../src/heartbeat/host.ts";
import { createSampler } from "../src/heartbeat/sample.ts";
import { judgeResources, noMarks } from "../src/heartbeat/watermarks.ts";
import { traceparentOf } from "../src/link/trace.ts";
import { type Figures, renderMetrics } from "../src/local/metrics.ts";
import { openLocalPage } from "../src/local/page.ts";
import { startWatchdog } from "../src/local/watchdog.ts";

const mib = 1024 * 1024;
const health = (more: Partial<VmHealth> = {}): VmHealth => ({
  cpuUsagePercent: 12.5,
  cpuLoad: 0.5,
  memoryUsedBytes: 100 * mib,
  memoryTotalBytes: 1_000 * mib,
  diskUsedBytes: 100 * mib,
  diskTotalBytes: 1_000 * mib,
  ...more,
});
const figures: Figures = {
  version: "0.1.0",
  state: "idle",
  states: ["idle", "job_running"],
  isLinked: true,
  isBusy: false,
  spool: { pending: 3, bytes: 1_234, inMemory: 0, degraded: false },
  events: 7,
  commands: { succeeded: 2, failed: 1, refused: 0 },
  residentBytes: 1,
  cpuSeconds: 0.5,
  uptimeSeconds: 9,
  health: health(),
  jobs: 1,
  lastJob: { cpuSeconds: 2, durationMs: 4_500 },
};

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "mig-local-"));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

test("what Prometheus reads has a help, a type and a value for each, and no word that breaks a line", () => {
  const text = renderMetrics({ ...figures, version: 'a"b\\c\nd' });
  expect(text).toContain('miglet_state{state="idle"} 1\nmiglet_state{state="job_running"} 0\n');
  expect(text).toContain('miglet_commands_total{outcome="failed"} 1');
  expect(text).toContain("miglet_last_job_duration_seconds 4.5");
  for (const line of text.trimEnd().split("\n"))
    expect(line).toMatch(/^(?:# (?:HELP|TYPE) miglet_\w+ .+|miglet_\w+(?:\{[^\n]*\})? -?[\d.e+-]+)$/);
  expect(text).not.toContain("clock_skew");
});

const get = (port: number, path: string, more: { method?: string; host?: string } = {}) =>
  new Promise<{ code: number; body: string }>((resolve, reject) => {
    const headers = { host: more.host ?? `127.0.0.1:${port}` };
    const call = request(
      { host: "127.0.0.1", port, path, method: more.method ?? "GET", headers },
      (answer) => {
        let body = "";
        answer.setEncoding("utf8").on("data", (part: string) => {
          body += part;
        });
        answer.on("end", () => resolve({ code: answer.statusCode ?? 0, body }));
      },
    );
    call.once("error", reject);
    call.end();
  });

test("the page answers this machine, and nobody who names another host or wants to change something", async () => {
  const settings = {
    listen: "127.0.0.1:0",
    figures: () => figures,
    status: () => ({ state: "idle" }),
    log: silentLog,
  };
  const page = await openLocalPage(settings);
  const port = page.port ?? 0;
  expect((await get(port, "/metrics?x")).body).toContain("miglet_link_up 1");
  expect(JSON.parse((await get(port, "/status")).body)).toEqual({ state: "idle" });
  expect(await get(port, "/healthz")).toEqual({ code: 200, body: "ok\n" });
  expect((await get(port, "/etc/passwd")).code).toBe(404);
  expect((await get(port, "/status", { method: "POST" })).code).toBe(405);
  expect((await get(port, "/status", { host: "evil.example" })).code).toBe(403);
  const taken = await openLocalPage({ ...settings, listen: `127.0.0.1:${port}` });
  expect(taken.port).toBeUndefined();
  await page.close();
});

test("three samples in a row below a mark say so once; a machine that recovers may say it again", () => {
  const marks = { diskFreeMib: 256, memoryAvailableMib: 0 };
  const low = health({ diskUsedBytes: 900 * mib });
  const told = (samples: readonly VmHealth[]): number => {
    let state = noMarks;
    return samples.reduce((sum, sample) => {
      const judged = judgeResources(state, sample, marks);
      state = judged.state;
      return sum + judged.lows.length;
    }, 0);
  };
  expect(told([low, low])).toBe(0);
  expect(told([low, low, health(), low, low])).toBe(0);
  expect(told([low, low, low, low, low])).toBe(1);
  expect(told([low, low, low, health(), low, low, low])).toBe(2);
  expect(told(Array.from({ length: 5 }, () => health({ diskTotalBytes: 0, diskUsedBytes: 0 })))).toBe(0);
  expect(judgeResources({ disk: 2, memory: 0 }, low, marks).lows).toEqual([
    { resource: "disk", freeMib: 100, neededMib: 256 },
  ]);
});

test("the newest figures are an interval old at most, and two who ask share one measurement", async () => {
  let measured = 0;
  const sampler = createSampler({
    intervalMs: 60_000,
    measure: async () => health({ cpuLoad: ++measured }),
    log: silentLog,
  });
  const [a, b] = await Promise.all([sampler.newest(), sampler.newest()]);
  expect([a.cpuLoad, b.cpuLoad, (await sampler.newest()).cpuLoad]).toEqual([1, 1, 1]);
  sampler.close();
});

test("all interfaces but loopback are counted", () => {
  const dev = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 999 1 0 0 0 0 0 0 999 1 0 0 0 0 0 0
  eth0: 100 1 0 0 0 0 0 0 10 1 0 0 0 0 0 0
 wlan0:5 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0
`;
  expect(parseNetwork(dev)).toEqual({ networkReceivedBytes: 105, networkSentBytes: 17 });
  expect(parseNetwork("")).toEqual({});
});

test("a trace context is one, the same for a life and another for each event", () => {
  fc.assert(
    fc.property(fc.string(), fc.string(), (life, event) => {
      const context = traceparentOf(life, event);
      expect(context).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/);
      expect(context.slice(3, 35)).not.toBe("0".repeat(32));
      expect(traceparentOf(life, `${event}x`).slice(0, 35)).toBe(context.slice(0, 35));
      expect(traceparentOf(life, `${event}x`)).not.toBe(context);
    }),
  );
});

test("systemd is fed while the agent lives, and not when it stands still", async () => {
  const told = join(dir, "told");
  const program = join(dir, "systemd-notify");
  await writeFile(program, `#!/bin/sh\necho "$NOTIFY_SOCKET $*" >> ${told}\n`);
  await chmod(program, 0o755);
  let isAlive = true;
  const lines: string[] = [];
  const log = createLog({ level: "error", write: (line) => void lines.push(line) });
  const watchdog = await startWatchdog({
    notifySocket: "/run/x",
    watchdogUsec: "100000",
    isAlive: () => (isAlive ? Promise.resolve(true) : new Promise(() => {})),
    program,
    log,
  });
  await watchdog.tell("READY=1", "STATUS=idle");
  const read = (): Promise<string> => readFile(told, "utf8").catch(() => "");
  await waitFor("the watchdog to be fed", async () => (await read()).includes("/run/x WATCHDOG=1"));
  expect(await read()).toContain("/run/x READY=1 STATUS=idle");
  isAlive = false;
  await waitFor("the agent to be missed", () => lines.length > 1);
  const fed = (await read()).split("WATCHDOG").length;
  await waitFor("it to be missed again", () => lines.length > 3);
  expect((await read()).split("WATCHDOG").length).toBe(fed);
  watchdog.close();
});

test("without systemd, or without its program, nothing is told and nothing fails", async () => {
  const settings = { watchdogUsec: "1000", isAlive: async () => true, log: silentLog };
  for (const more of [{ notifySocket: undefined }, { notifySocket: "/run/x", program: join(dir, "none") }]) {
    const watchdog = await startWatchdog({ ...settings, ...more });
    await watchdog.tell("READY=1");
    watchdog.close();
  }
});
