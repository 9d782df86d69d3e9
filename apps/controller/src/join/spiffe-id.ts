import { isId } from "@mig/protocol";

export interface VmSpiffeId {
  readonly orgId: string;
  readonly poolId: string;
  readonly vmId: string;
}

/**
 * `spiffe://<trust domain>/org/<o>/pool/<p>/vm/<v>`, exactly: no escapes, no query, no other spelling of the same.
 * Undefined for every other URI.
 */
export function readVmSpiffeId(uri: string, trustDomain: string): VmSpiffeId | undefined {
  const prefix = `spiffe://${trustDomain}/`;
  if (!uri.startsWith(prefix)) return undefined;
  const [org, orgId = "", pool, poolId = "", vm, vmId = "", ...rest] = uri.slice(prefix.length).split("/");
  const isOurs = org === "org" && pool === "pool" && vm === "vm" && rest.length === 0;
  return isOurs && [orgId, poolId, vmId].every((id) => isId(id)) ? { orgId, poolId, vmId } : undefined;
}
