import type { Log } from "@mig/kit";
import type { SilenceBounds } from "@mig/lifecycle";
import type { Rules } from "../context.ts";
import type { GrantSource, Pool } from "../github/grant-source.ts";
import type { Store } from "../store/open-store.ts";
import type { Registry } from "./registry.ts";

/** What the parts of `session/` work with. */
export interface Parts {
  readonly store: Store;
  readonly registry: Registry;
  readonly grants: GrantSource;
  readonly rules: Rules;
  readonly pace: Pace;
  readonly log: Log;
  /** Ends when the controller does. */
  readonly signal: AbortSignal;
  /** The pool of a VM, or undefined when it names one that does not exist. */
  poolOf(poolId: string): Pool | undefined;
}

export interface Pace {
  heartbeatIntervalMs: number;
  silence: SilenceBounds;
  /** After a start, a database outage or a stall nobody is called silent for so long (Nomad's failover TTL). */
  graceMs: number;
  /** How often heartbeats in memory are written and the watch looks around. */
  sweepMs: number;
}

/** The pool and org that a message names; the org of the pool where it names only that, nothing where it names none. */
export function namesIn(
  { poolOf }: Pick<Parts, "poolOf">,
  message: { poolId: string; orgId?: string },
): { poolId: string | undefined; orgId: string | undefined } {
  const poolId = message.poolId === "" ? undefined : message.poolId;
  return { poolId, orgId: message.orgId ?? (poolId === undefined ? undefined : poolOf(poolId)?.orgId) };
}
