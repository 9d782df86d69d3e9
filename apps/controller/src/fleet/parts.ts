import type { Log } from "@mig/kit";
import type { Rules } from "../context.ts";
import type { Pool } from "../github/grant-source.ts";
import type { Store } from "../store/open-store.ts";

/** What fleet orders work with. */
export interface FleetParts {
  readonly store: Store;
  readonly rules: Rules;
  readonly log: Log;
  readonly registry: { wake(vmId: string): void };
  poolOf(poolId: string): Pool | undefined;
}
