import type { GrantSource } from "./grant-source.ts";

/** Sample mode: the same token for everybody, as the sample controller of seeds 002 and 004 hands it out. */
export function createFixedGrants(registrationToken: string): GrantSource {
  return {
    take: async ({ vmId, requestId, pool, said = {} }) => ({
      registrationToken,
      runnerName: `${vmId.slice(0, 48)}-${requestId.slice(-8)}`,
      expiresAtMs: Date.now() + 3_600_000,
      runnerUrl: pool.runnerUrl,
      runnerGroup: said.runnerGroup ?? pool.runnerGroup,
      labels: said.labels ?? pool.labels,
    }),
    remove: async () => "unknown",
  };
}
