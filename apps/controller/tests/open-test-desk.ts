import { silentLog } from "@mig/kit";
import type { GrantSource } from "../src/github/grant-source.ts";
import type { Desk } from "../src/session/desk.ts";
import { openDesk } from "../src/session/open-desk.ts";
import type { Parts } from "../src/session/parts.ts";
import { Registry } from "../src/session/registry.ts";
import type { Store } from "../src/store/open-store.ts";

/** The same request gets the same grant again. */
const inAnHourMs = Date.now() + 3_600_000;

export const fixedGrants: GrantSource = {
  take: async ({ vmId, requestId, pool }) => ({
    registrationToken: `token-for-${vmId}`,
    runnerName: `${vmId}-${requestId.slice(-8)}`,
    expiresAtMs: inAnHourMs,
    runnerUrl: pool.runnerUrl,
    runnerGroup: pool.runnerGroup,
    labels: pool.labels,
  }),
  remove: async () => "unknown",
};

export interface TestDesk extends AsyncDisposable {
  desk: Desk;
  store: Store;
  registry: Registry;
}

/** A desk on a store, with times a hundred times shorter than in the field. */
export function openTestDesk(store: Store, more: Partial<Parts> = {}): TestDesk {
  const end = new AbortController();
  const registry = new Registry();
  const opened = openDesk({
    store,
    registry,
    grants: fixedGrants,
    rules: { commandExpiryMs: 60_000, commandAckMs: 300, registrationsMax: 3 },
    pace: {
      heartbeatIntervalMs: 150,
      silence: { unreachableAfterMs: 450, lostAfterMs: 1_200, lostWithJobAfterMs: 3_000 },
      graceMs: 450,
      sweepMs: 20,
    },
    log: silentLog,
    signal: end.signal,
    poolOf: (id) => ({
      id,
      orgId: "org-of-pool",
      runnerUrl: "https://github.com/testorg",
      runnerGroup: "default",
      labels: ["self-hosted", "linux", "x64"],
      registration: "token",
    }),
    ...more,
  });
  return {
    desk: opened.desk,
    store,
    registry,
    async [Symbol.asyncDispose]() {
      end.abort();
      await opened[Symbol.asyncDispose]();
    },
  };
}
