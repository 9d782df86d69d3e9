import { pause } from "@mig/kit";
import type { GoAway } from "@mig/protocol";
import type { FastifyRequest } from "fastify";
import { asOwn, callerOf, demand, type Gate } from "../auth.ts";

/** By what right a stream that began as a request goes on. */
export interface Standing {
  /** What the VM says, with the pool and organization of its token; throws `vm_mismatch` for another's. */
  own<T extends { poolId?: string | undefined; orgId?: string | undefined }>(said: T): T;
  /** Throws what the guard would throw now. Until when the stream may speak for the VM; undefined: as long as it lasts. */
  recheck(): Promise<number | undefined>;
}

export function standingOf(gate: Gate, request: FastifyRequest, vmId: string): Standing {
  const who = callerOf(request);
  const { authorization } = request.headers;
  return {
    own: (said) => asOwn(who, said),
    async recheck() {
      const now = await gate.identify(authorization);
      demand(now.who, "vm.speak", { vmId });
      return now.untilMs;
    },
  };
}

/**
 * Streams that were opened together do not come back together: they leave within the last minute of their token, or
 * its last quarter. One that came late with an old token has something of it left.
 */
const tokenMarginMs = 60_000;

/** A token ends while the stream goes on: the agent has a newer one by then and comes back with it. */
export async function leaveInTime(
  standing: Standing,
  signal: AbortSignal,
  leave: (goAway: GoAway) => void,
): Promise<void> {
  // A failure is found, and dealt with, by the next look at the credentials.
  const untilMs = await standing.recheck().catch(() => undefined);
  if (untilMs !== undefined) await leaveAt(untilMs, signal, leave);
}

export async function leaveAt(
  untilMs: number,
  signal: AbortSignal,
  leave: (goAway: GoAway) => void,
): Promise<void> {
  const leftMs = Math.max(0, untilMs - Date.now());
  await pause(leftMs - Math.random() * Math.min(tokenMarginMs, leftMs / 4), signal);
  if (!signal.aborted) leave({ reason: "token_expired", reconnectAfterMs: 0, deadlineMs: 500 });
}
