import type { Log } from "@mig/kit";
import type { GrantSource, Removal } from "../github/grant-source.ts";
import type { VmRow } from "../store/rows.ts";

/**
 * Asks GitHub to let a VM's runner go. Delete first, signal second: the other order can kill a job that was accepted
 * a moment ago (runner-contract §3.9). `busy` = GitHub says that a job runs there; `unknown` = nobody can say, and
 * the agent goes by what it sees itself.
 */
export async function letRunnerGo(
  { grants, log }: { grants: GrantSource; log: Log },
  { vmId, orgId, poolId, runnerName }: Pick<VmRow, "vmId" | "orgId" | "poolId" | "runnerName">,
): Promise<Removal> {
  if (runnerName === null) return "unknown";
  return grants.remove({ orgId, poolId, runnerName }).catch((error: unknown) => {
    log.warn({ vm_id: vmId, error }, "GitHub could not be asked to let an idle runner go");
    return "unknown";
  });
}

/**
 * A VM says by itself what its runner is called. For its own wish only a name is believed that begins as the names
 * of its grants do: a VM must not be able to have another one's runner removed.
 */
export function isOwnRunner({ vmId, runnerName }: Pick<VmRow, "vmId" | "runnerName">): boolean {
  return runnerName?.startsWith(`${vmId.slice(0, 48)}-`) === true;
}
