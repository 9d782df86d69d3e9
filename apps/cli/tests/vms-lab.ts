import type { IdentityLab } from "../../controller/tests/identity-lab.ts";
import { call, type Reply } from "../../controller/tests/open-test-listeners.ts";

/** What the agent of a VM says to its controller: `path` is below the VM's own; without `json` it is a question. */
export type AgentCall = (vmId: string, path: string, json?: object) => Promise<Reply>;

/** VMs that have joined, each with its own token; a test speaks for their agents. */
export async function joinVms(lab: IdentityLab, vmIds: readonly string[]): Promise<AgentCall> {
  const tokens = new Map<string, string>();
  for (const vmId of vmIds)
    tokens.set(vmId, (await lab.machine(vmId).join(await lab.joinToken())).body.access_token);
  return (vmId, path, json) =>
    call(`${lab.url}/api/v1/vms/${vmId}/${path}`, {
      headers: { authorization: `Bearer ${tokens.get(vmId)}` },
      ...(json === undefined ? {} : { json }),
    });
}
