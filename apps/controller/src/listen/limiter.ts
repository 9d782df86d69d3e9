import { MigError } from "@mig/lifecycle";
import type { LimitsConfig } from "../config/config.ts";
import type { Who } from "./auth.ts";
import { Buckets } from "./buckets.ts";

/**
 * How much of the controller one caller may have (seed 000 R7.4). The order is that of cost: a connection before a
 * byte of it is read (door.ts), who is not known by address, who is known by VM, pool and organization or by key and
 * never by address. What is refused when the process itself cannot keep up: shedding.ts.
 */
export interface Limiter {
  /** Throws `rate_limited`, with the time after which it may be tried again. */
  chargeUnknown(address: string): void;
  charge(who: Who): void;
  /** For streams: how long a message has to wait. Nothing is refused there, the peer is read more slowly. */
  delayMs(who: Who): number;
}

const burstFactor = 5;
/** A message of a stream is a tenth of a request: an agent that comes back from an outage has thousands of events. */
const streamFactor = 10;

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
    charge(who) {
      const { waitMs, whose } = waitOf(who);
      if (waitMs > 0)
        throw new MigError("rate_limited", `too many requests of ${whose}`, { retryAfterMs: waitMs });
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
