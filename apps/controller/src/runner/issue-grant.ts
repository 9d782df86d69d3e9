import { MigError } from "@mig/lifecycle";
import type { Grant, GrantRequest, GrantSource, Pool } from "../github/grant-source.ts";
import type { CommandRow, VmRow } from "../store/rows.ts";

/**
 * Grants: permission to register one runner. The endpoint `registration-token` and the command `register_runner`
 * draw from here. A command that is delivered again within five minutes carries the same grant again, so a lost
 * delivery costs no second registration.
 */
export interface GrantParts {
  grants: GrantSource;
  signal: AbortSignal;
  poolOf(poolId: string): Pool | undefined;
}

const keepMs = 5 * 60_000;
const keptMax = 10_000;

export function createGrants(parts: GrantParts): {
  grantFor(command: Pick<CommandRow, "id" | "attempt">, vm: VmRow): Promise<Grant>;
  grantOnRequest(vm: { vmId: string; poolId: string; orgId: string }, request: GrantRequest): Promise<Grant>;
} {
  const kept = new Map<string, { grant: Promise<Grant>; untilMs: number }>();

  const issue = (
    vm: Pick<VmRow, "vmId" | "poolId" | "orgId">,
    attempt: string,
    request: GrantRequest,
  ): Promise<Grant> => {
    const pool = parts.poolOf(vm.poolId);
    if (pool === undefined) {
      throw new MigError(
        "forbidden",
        `there is no pool "${vm.poolId}"; add it to the configuration, or correct pool_id on the VM`,
      );
    }
    return parts.grants.issue(
      {
        vmId: vm.vmId,
        orgId: vm.orgId,
        pool,
        runnerName: `${vm.vmId.slice(0, 48)}-${attempt}`,
        ...(request.runnerGroup === undefined ? {} : { runnerGroup: request.runnerGroup }),
        ...(request.labels === undefined ? {} : { labels: request.labels }),
      },
      parts.signal,
    );
  };

  return {
    async grantFor({ id: commandId, attempt }, vm) {
      const nowMs = performance.now();
      for (const [id, entry] of kept) if (entry.untilMs < nowMs || kept.size > keptMax) kept.delete(id);
      const known = kept.get(commandId);
      if (known !== undefined) return known.grant;
      // The attempt is in the name: an earlier one may have made a runner whose answer nobody got.
      const grant = issue(vm, `${commandId.slice(-8)}-${attempt}`, {});
      kept.set(commandId, { grant, untilMs: nowMs + keepMs });
      return grant.catch((error: unknown) => {
        kept.delete(commandId);
        throw error;
      });
    },
    async grantOnRequest(vm, request) {
      return issue(
        vm,
        Math.floor(Math.random() * 36 ** 6)
          .toString(36)
          .padStart(6, "0"),
        request,
      );
    },
  };
}
