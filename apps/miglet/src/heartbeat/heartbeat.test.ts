import { silentLog, waitFor } from "@mig/kit";
import type { HeartbeatReply } from "@mig/protocol";
import { expect, test } from "vitest";
import { createPulse, type HeartbeatPulse } from "./beat.ts";
import { createHostMeter, kilobytesOf, parseCpuTimes } from "./host.ts";

test("the server's answer sets the interval, and beats never overlap", async () => {
  let made = 0;
  let inFlight = 0;
  let most = 0;
  const release: (() => void)[] = [];
  const sent: number[] = [];
  const pulse: HeartbeatPulse = createPulse({
    intervalMs: 60_000,
    log: silentLog,
    make: async () => ({ vmId: "v", poolId: "p", sentAtMs: ++made }),
    send: async (beat): Promise<HeartbeatReply> => {
      inFlight += 1;
      most = Math.max(most, inFlight);
      await new Promise<void>((resolve) => release.push(resolve));
      inFlight -= 1;
      sent.push(beat.sentAtMs);
      // Twenty beats a second would be all that the VM does: a second is the least.
      return { nextIntervalMs: 30, serverTimeMs: 1 };
    },
  });
  pulse.start();
  await waitFor("the first beat", () => release.length === 1);
  for (let n = 0; n < 5; n += 1) pulse.beatNow();
  release.shift()?.();
  await waitFor("the beat that was asked for", () => release.length === 1);
  expect(made).toBe(2);
  release.shift()?.();
  await waitFor("a beat by the new interval", () => release.length === 1);
  expect(pulse.intervalMs()).toBe(1_000);
  expect(most).toBe(1);
  release.shift()?.();
  await pulse.close();
  expect(sent).toEqual([1, 2, 3]);
});

test("a beat that fails is told and the next one comes all the same; nonsense intervals are bounded", async () => {
  const errors: unknown[] = [];
  const pulse = createPulse({
    intervalMs: 0,
    log: silentLog,
    make: async () => ({ vmId: "v", poolId: "p", sentAtMs: 1 }),
    send: async () => Promise.reject(new Error("down")),
    onSent: ({ error }) => void errors.push(error),
  });
  pulse.start();
  await waitFor("two failures", () => errors.length >= 2);
  pulse.setIntervalMs(Number.NaN);
  expect(pulse.intervalMs()).toBe(15_000);
  pulse.setIntervalMs(1e12);
  expect(pulse.intervalMs()).toBe(600_000);
  await pulse.close();
});

test("the host's figures are real: a busy loop shows, memory and disk have their totals", async () => {
  const measure = createHostMeter({ diskPath: "/", includeDisk: true, includeNetwork: true });
  await measure();
  const untilMs = performance.now() + 120;
  while (performance.now() < untilMs);
  const health = await measure();
  expect(health.cpuUsagePercent).toBeGreaterThan(5);
  expect(health.cpuUsagePercent).toBeLessThanOrEqual(100);
  expect(health.memoryTotalBytes).toBeGreaterThan(health.memoryUsedBytes);
  expect(health.diskTotalBytes).toBeGreaterThan(health.diskUsedBytes);
  expect(health.memoryUsedBytes).toBeGreaterThan(0);
});

test("the kernel's tables are read by their names", () => {
  expect(parseCpuTimes("cpu  10 1 5 80 4 1 2 3 7 0\ncpu0 1 1 1 1\n")).toEqual({ total: 106, busy: 22 });
  expect(parseCpuTimes("intr 1\n")).toBeUndefined();
  expect(kilobytesOf("MemTotal:       16 kB\nMemAvailable:    7 kB\n", "MemAvailable")).toBe(7168);
});
