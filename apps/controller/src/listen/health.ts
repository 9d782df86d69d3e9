import { pause } from "@mig/kit";

/** What the health endpoints ask the controller. */
export interface Health {
  /** Started and not stopping. */
  isReady(): boolean;
  isStoreReachable(): Promise<boolean>;
}

export interface Check {
  name: string;
  state: "ok" | "degraded" | "failed";
}

export type HealthStatus = "ok" | "degraded" | "unavailable";

/** A database that takes longer is away, as far as a probe is concerned. */
const storeAnswerMs = 1_000;

/**
 * What `/readyz` says. The database being away degrades only: failing every replica at once would cut every stream
 * for nothing (reliability-security §2.8).
 */
export async function examine(health: Health): Promise<{ status: HealthStatus; checks: Check[] }> {
  const end = new AbortController();
  const late = pause(storeAnswerMs, end.signal).then(() => false);
  const isStored = await Promise.race([health.isStoreReachable().catch(() => false), late]);
  end.abort();
  const isReady = health.isReady();
  return {
    status: !isReady ? "unavailable" : isStored ? "ok" : "degraded",
    checks: [
      { name: "lifecycle", state: isReady ? "ok" : "failed" },
      { name: "store", state: isStored ? "ok" : "degraded" },
    ],
  };
}
