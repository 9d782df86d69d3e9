import { MigError } from "@mig/lifecycle";
import { readJoinToken, redeem } from "./join-tokens.ts";
import type { Prover } from "./prover.ts";

/** The method `token`: an enrolment token that an operator made for a pool. */
export const tokenProver: Prover = {
  async verify({ vmId, token = "", method }, { address, orgIs }) {
    return async (tx) => {
      const row = await readJoinToken(tx, token, address);
      orgIs(row.orgId);
      if (row.vmId !== null && row.vmId !== vmId)
        throw new MigError("forbidden", `the enrolment token is for ${row.vmId}`);
      return {
        method,
        instance: `vm:${vmId}`,
        poolId: row.poolId,
        orgId: row.orgId,
        joinedBy: row.id,
        spend: () => redeem(tx, row),
      };
    };
  },
};
