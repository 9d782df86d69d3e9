import { MigError } from "@mig/lifecycle";
import type { Grant, GrantRequest, GrantSource, Pool } from "../github/grant-source.ts";
import type { CommandRow, VmRow } from "../store/rows.ts";

/**
 * Grants: permission to register one runner. The endpoint `registration-token` and the command `register_runner`
 * draw from here, and from the same line (grant-line.ts).
 */
export interface GrantParts {
  grants: GrantSource;
  poolOf(poolId: string): Pool | undefined;
}

/** Who names no request has one in mind: the runner of this life (agents from before MIG ask again and again). */
const unnamed = "registration-token";

type Asker = Pick<VmRow, "vmId" | "incarnation" | "poolId" | "orgId">;

/** A delivery is not held up for longer: the command goes back into its queue until the grant's turn has come. */
const holdForCommandMs = 1_500;
/** An agent that asks over HTTP waits in its request. */
const holdForRequestMs = 5_000;

export function createGrants(parts: GrantParts): {
  grantFor(command: Pick<CommandRow, "id">, vm: Asker): Promise<Grant>;
  grantOnRequest(vm: Asker, request: GrantRequest): Promise<Grant>;
} {
  const take = (vm: Asker, requestId: string, request: GrantRequest, holdMs: number): Promise<Grant> => {
    const { vmId, incarnation, poolId, orgId } = vm;
    const pool = parts.poolOf(poolId);
    if (pool === undefined)
      throw new MigError(
        "forbidden",
        `there is no pool "${poolId}"; add it to the configuration, or correct pool_id on the VM`,
      );
    const mayRenew = requestId === unnamed;
    return parts.grants.take(
      { vmId, incarnation, orgId, poolId, requestId, mayRenew, pool, said: request },
      holdMs,
    );
  };
  return {
    grantFor: async ({ id }, vm) => take(vm, id, {}, holdForCommandMs),
    grantOnRequest: async (vm, request) => take(vm, request.requestId ?? unnamed, request, holdForRequestMs),
  };
}
