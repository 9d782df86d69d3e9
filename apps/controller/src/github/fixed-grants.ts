import type { GrantSource } from "./grant-source.ts";

/** Sample mode: the same token for everybody, as the sample controller of seeds 002 and 004 hands it out. */
export function createFixedGrants(registrationToken: string): GrantSource {
  return {
    issue: async (wish) => ({
      registrationToken,
      runnerName: wish.runnerName,
      expiresAtMs: Date.now() + 3_600_000,
      runnerUrl: wish.pool.runnerUrl,
      runnerGroup: wish.runnerGroup ?? wish.pool.runnerGroup,
      labels: wish.labels ?? wish.pool.labels,
    }),
    remove: async () => "unknown",
  };
}
