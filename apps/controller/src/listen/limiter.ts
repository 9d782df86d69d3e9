import { monitorEventLoopDelay } from "node:perf_hooks";
import { type Action, MigError } from "@mig/lifecycle";
import type { LimitsConfig } from "../config/config.ts";
import type { Who } from "./auth.ts";
import { Buckets } from "./buckets.ts";

/**
 * How much of the controller one caller may have (seed 000 R7.4). The order is that of cost: a connection before a
 * byte of it is read (door.ts), who is not known by address, who is known by VM, pool and organization or by key and
 * never by address. When the process itself cannot keep up, what nobody waits for in earnest is refused first.
 */
export interface Limiter {
  /** Throws `rate_limited`, with the time after which it may be tried again. */
  chargeUnknown(address: string): void;
  charge(who: Who, action: Action): void;
  /** For streams: how long a message has to wait. Nothing is refused there, the peer is read more slowly. */
  delayMs(who: Who): number;
}

const burstFactor = 5;
/** A message of a stream is a tenth of a request: an agent that comes back from an outage has thousands of events. */
const streamFactor = 10;
/** Beyond this the event loop is late for everybody (reliability-security §2.7). */
const lateMs = 100;
const sampleMs = 1_000;
const lateSecondsMin = 3;

export function createLimiter(limits: LimitsConfig): Limiter {
  const bucketsOf = (perSecond: number): Buckets =>
    new Buckets({ perSecond, burst: perSecond * burstFactor });
  const buckets = {
    vm: bucketsOf(limits.vm),
    stream: bucketsOf(limits.vm * streamFactor),
    pool: bucketsOf(limits.pool),
    org: bucketsOf(limits.org),
    operator: bucketsOf(limits.operator),
    unknown: bucketsOf(limits.unknown),
  };
  const isLate = watchEventLoop();

  const waitOf = (who: Who): { waitMs: number; whose: string } => {
    const nowMs = performance.now();
    for (const [whose, kind, key] of sharesOf(who)) {
      const waitMs = buckets[kind].take(key, nowMs);
      if (waitMs > 0) return { waitMs, whose };
    }
    return { waitMs: 0, whose: "" };
  };

  return {
    chargeUnknown(address) {
      const waitMs = buckets.unknown.take(address, performance.now());
      if (waitMs > 0)
        throw new MigError("rate_limited", "too many requests from this address without a good token", {
          retryAfterMs: waitMs,
        });
    },
    charge(who, action) {
      const { waitMs, whose } = waitOf(who);
      if (waitMs > 0)
        throw new MigError("rate_limited", `too many requests of ${whose}`, { retryAfterMs: waitMs });
      if (action.endsWith(".read") && isLate())
        throw new MigError("overloaded", "the controller is busy with its VMs; lists come later", {
          retryAfterMs: 2_000,
        });
    },
    delayMs: (who) =>
      who !== "anybody" && who.party === "vm" ? buckets.stream.take(who.vmId, performance.now()) : 0,
  };
}

type Share = readonly [whose: string, kind: "vm" | "pool" | "org" | "operator", key: string];

function sharesOf(who: Who): readonly Share[] {
  if (who === "anybody" || who.party === "agents") return [];
  if (who.party !== "vm") return [[`the key ${who.name}`, "operator", who.name]];
  return [
    [`the VM ${who.vmId}`, "vm", who.vmId],
    [`the pool ${who.poolId}`, "pool", who.poolId],
    [`the organization ${who.orgId}`, "org", who.orgId],
  ];
}

/** One slow second is a garbage collection or somebody's large page; three in a row are too much work. */
function watchEventLoop(): () => boolean {
  const histogram = monitorEventLoopDelay({ resolution: 20 });
  histogram.enable();
  let lateSeconds = 0;
  setInterval(() => {
    const isLate = histogram.count > 0 && histogram.percentile(90) / 1e6 > lateMs;
    lateSeconds = isLate ? lateSeconds + 1 : 0;
    histogram.reset();
  }, sampleMs).unref();
  return () => lateSeconds >= lateSecondsMin;
}
