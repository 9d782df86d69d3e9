import { createLog, type Log, silentLog, waitFor } from "@mig/kit";
import type { PreemptionData } from "@mig/protocol";
import {
  type AwsMetadata,
  freePort,
  type GcpMetadata,
  startAwsMetadata,
  startGcpMetadata,
} from "@mig/sandbox";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type WatchPreemption, watchPreemption } from "../src/boot/watch-preemption.ts";

let gcp: GcpMetadata;
let aws: AwsMetadata;
let notices: PreemptionData[];
let stop: AbortController;
const timing = { everyMs: 20, retryFirstMs: 10, retryCapMs: 40, answerMs: 500, holdMs: 2_000 };
beforeEach(async () => {
  notices = [];
  stop = new AbortController();
  [gcp, aws] = await Promise.all([startGcpMetadata(), startAwsMetadata({ lifeCycle: "spot" })]);
});
afterEach(async () => {
  stop.abort();
  await Promise.all([gcp.close(), aws.close()]);
});

const watch = (
  facts: WatchPreemption["facts"],
  endpoint: string,
  more: { log?: Log; timing?: object } = {},
): Promise<void> =>
  watchPreemption({
    facts,
    endpoint,
    signal: stop.signal,
    onNotice: (notice) => void notices.push(notice),
    log: more.log ?? silentLog,
    timing: { ...timing, ...more.timing },
  });
const held = () => gcp.requests.filter(({ path }) => path.includes("wait_for_change")).length;
const asked = () => aws.requests.filter(({ path }) => path.endsWith("spot/instance-action")).length;

describe("a preemption by GCP", () => {
  it("is heard while the question is held, once, with what is left", async () => {
    const watching = watch({ cloud: "gcp" }, gcp.url);
    await waitFor("both questions are held", () => held() === 2);
    const beforeMs = Date.now();
    gcp.preempt();
    await watching;
    expect(notices).toEqual([{ cloud: "gcp", action: "preempted", deadlineMs: expect.any(Number) }]);
    const leftMs = (notices[0]?.deadlineMs ?? 0) - beforeMs;
    expect(leftMs).toBeGreaterThanOrEqual(30_000);
    expect(leftMs).toBeLessThan(32_000);
  });

  it("that came before anybody listened is heard too", async () => {
    gcp.preempt();
    await watch({ cloud: "gcp" }, gcp.url);
    expect(notices).toHaveLength(1);
  });

  it("a host maintenance that terminates counts, one that migrates does not", async () => {
    const watching = watch({ cloud: "gcp" }, gcp.url);
    await waitFor("both questions are held", () => held() === 2);
    gcp.announceMaintenance("MIGRATE_ON_HOST_MAINTENANCE");
    await waitFor("the value was heard", () => held() >= 3);
    expect(notices).toEqual([]);
    gcp.announceMaintenance("TERMINATE_ON_HOST_MAINTENANCE");
    await watching;
    expect(notices[0]?.action).toBe("terminate");
  });

  it.each(["hang", "cut", "garbage", "endless", "status"] as const)(
    "is heard after a time of %s",
    async (kind) => {
      gcp.fail(kind === "status" ? { kind, status: 503 } : { kind });
      const watching = watch({ cloud: "gcp" }, gcp.url, { timing: { answerMs: 50, holdMs: 100 } });
      await waitFor("it tried again", () => gcp.requests.length >= 6);
      expect(notices).toEqual([]);
      gcp.mend();
      gcp.preempt();
      await watching;
      expect(notices).toHaveLength(1);
    },
  );

  it("a hold that runs out asks again, and not without a pause", async () => {
    const watching = watch({ cloud: "gcp" }, gcp.url, { timing: { holdMs: 1_000 } });
    await waitFor("it is held again", () => held() >= 4);
    expect(held()).toBeLessThan(10);
    stop.abort();
    await watching;
    expect(notices).toEqual([]);
  });
});

describe("an interruption by AWS", () => {
  const spot = { cloud: "aws", isSpot: true } as const;

  it("is heard with the time that EC2 says; a session that it forgot is opened again", async () => {
    const watching = watch(spot, aws.url);
    await waitFor("it was asked", () => asked() >= 2);
    aws.forgetTokens();
    const before = asked();
    await waitFor("it was asked again", () => asked() >= before + 3);
    aws.interrupt("terminate", Date.parse("2026-11-21T06:00:00Z"));
    await watching;
    expect(notices).toEqual([
      { cloud: "aws", action: "terminate", deadlineMs: Date.parse("2026-11-21T06:00:00Z") },
    ]);
    expect(aws.requests.filter(({ method }) => method === "PUT")).toHaveLength(2);
  });

  it("a recommendation is logged once and is no notice", async () => {
    let lines = "";
    const log = createLog({ level: "warn", write: (line) => (lines += line) });
    aws.recommendRebalance(Date.now());
    const watching = watch(spot, aws.url, { log });
    await waitFor("it was asked", () => asked() >= 4);
    stop.abort();
    await watching;
    expect(lines.match(/more likely to be interrupted/g)).toHaveLength(1);
    expect(notices).toEqual([]);
  });

  it("an instance on demand asks nobody", async () => {
    await watch({ cloud: "aws", isSpot: false }, aws.url);
    expect(aws.requests).toEqual([]);
  });

  it("no service at all costs little and ends when asked to", async () => {
    const watching = watch(spot, `http://127.0.0.1:${await freePort()}`);
    stop.abort();
    await watching;
    expect(notices).toEqual([]);
  });
});
