import { MigError } from "@mig/lifecycle";
import type { MtlsPolicy } from "../config/join-policy.ts";
import type { PoolConfig } from "../config/pools.ts";
import type { PeerCertificate } from "../identity/peer-certificate.ts";
import { choosePool } from "./choose-pool.ts";
import type { Prover } from "./prover.ts";
import { readVmSpiffeId, type VmSpiffeId } from "./spiffe-id.ts";

export interface MtlsProverSettings {
  readonly trustDomain: string;
  readonly pools: () => readonly PoolConfig[];
  readonly nowMs?: () => number;
}

/**
 * The method `mtls`: the client certificate of the connection that the join comes by. It says which VM this is with a
 * SPIFFE id of our trust domain, or with a name that the join policy of a pool takes.
 */
export function createMtlsProver({ trustDomain, pools, nowMs = Date.now }: MtlsProverSettings): Prover {
  return {
    async verify({ method, vmId, poolId }, { certificate, orgIs }) {
      if (certificate === undefined)
        throw new MigError(
          "unauthenticated",
          "the connection has no client certificate; the controller needs tls.client_ca_file and the agent controller.tls.cert_path, with no proxy between that ends TLS",
        );
      // Verified when the connection began, which may be long ago.
      const now = nowMs();
      if (certificate.notAfterMs <= now || certificate.notBeforeMs > now)
        throw new MigError(
          "unauthenticated",
          "the client certificate has expired; renew it and connect again",
        );
      const pool = choose(certificate, vmId, poolId);
      orgIs(pool.orgId);
      const claim = {
        method,
        // One key is one machine, also when its certificate is renewed with the same key.
        instance: `mtls:${certificate.keyDigest}`,
        poolId: pool.id,
        orgId: pool.orgId,
        joinedBy: `mtls:${certificate.keyDigest}`,
        spend: async () => {},
      };
      return async () => claim;
    },
  };

  function choose(certificate: PeerCertificate, vmId: string, poolId: string | undefined): PoolConfig {
    const ids = certificate.uris.filter((uri) => uri.startsWith("spiffe://"));
    // SPIFFE's X.509-SVID allows one; with two, each reader might take another one.
    if (ids.length > 1)
      throw new MigError("forbidden", "the client certificate has more than one SPIFFE id; one is allowed");
    const id = ids[0] === undefined ? undefined : readVmSpiffeId(ids[0], trustDomain);
    if (id !== undefined) return poolOf(id, vmId, poolId);
    try {
      return choosePool(pools(), poolId, ({ join }) => judgeMtls(certificate, join?.mtls, vmId));
    } catch (error) {
      if (!(error instanceof MigError) || ids[0] === undefined) throw error;
      throw new MigError(
        "forbidden",
        `${error.message}. Its SPIFFE id is not spiffe://${trustDomain}/org/ORG/pool/POOL/vm/VM either (join.trust_domain)`,
        { cause: error },
      );
    }
  }

  function poolOf(id: VmSpiffeId, vmId: string, poolId: string | undefined): PoolConfig {
    if (id.vmId !== vmId)
      throw new MigError("forbidden", `the client certificate is of ${id.vmId}, and not of ${vmId}`);
    if (poolId !== undefined && poolId !== "" && poolId !== id.poolId)
      throw new MigError("forbidden", `the client certificate is for the pool ${id.poolId}, not ${poolId}`);
    const pool = pools().find((one) => one.id === id.poolId);
    if (pool === undefined) throw new MigError("forbidden", `there is no pool ${id.poolId}`);
    if (pool.orgId !== id.orgId)
      throw new MigError("forbidden", `the pool ${id.poolId} is not of the organization ${id.orgId}`);
    return pool;
  }
}

/** Why a pool does not take a certificate as this VM's; undefined: it does. */
export function judgeMtls(
  { subject, commonName, dns, uris }: PeerCertificate,
  policy: MtlsPolicy | undefined,
  vmId: string,
): string | undefined {
  if (policy === undefined) return "takes no client certificates (join.mtls)";
  const takes = (patterns: readonly string[], text: string): boolean =>
    patterns.some((one) => (one.endsWith("*") ? text.startsWith(one.slice(0, -1)) : text === one));
  const goodDns = dns.filter((one) => takes(policy.dns, one));
  const goodUris = uris.filter((one) => takes(policy.uris, one));
  const isGoodSubject = takes(policy.subjects, subject);
  if (!isGoodSubject && goodDns.length === 0 && goodUris.length === 0)
    return `takes no certificate of ${subject === "" ? "nobody" : subject} (join.mtls)`;
  // Which VM it is must come out of the very name that was taken, or one machine could join as any other.
  const vms = [
    ...(isGoodSubject && commonName !== undefined ? [commonName] : []),
    ...goodDns.flatMap((one) => [one, one.split(".")[0] ?? one]),
    ...goodUris.map((one) => one.split("/").at(-1) ?? one),
  ];
  return vms.includes(vmId) ? undefined : `takes this certificate as ${vms.join(" or ")}, not as ${vmId}`;
}
