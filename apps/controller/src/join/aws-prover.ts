import type { KeyObject } from "node:crypto";
import { MigError } from "@mig/lifecycle";
import type { AwsPolicy } from "../config/join-policy.ts";
import type { PoolConfig } from "../config/pools.ts";
import { askAwsCaller } from "./aws-caller.ts";
import { type AwsInstance, readAwsDocument } from "./aws-document.ts";
import { choosePool } from "./choose-pool.ts";
import { joinChallenge } from "./join-challenge.ts";
import type { Prover } from "./prover.ts";

export interface AwsProverSettings {
  readonly keysOf: (region: string) => readonly KeyObject[] | undefined;
  /** Where STS is asked; undefined: where the VM's signature says, which is AWS. */
  readonly stsUrl?: string;
  readonly pools: () => readonly PoolConfig[];
  readonly nowMs?: () => number;
}

/** Clocks of AWS and of the controller. */
const skewMs = 60_000;

/**
 * The method `aws`: the instance identity document, which says which instance it is but can be read by whoever is on
 * the VM, and as often as they like; the first key is the one that counts, and an old instance is none. Where the
 * pool's policy names roles, also a GetCallerIdentity that is signed for this one join.
 */
export function createAwsProver({ keysOf, stsUrl, pools, nowMs = Date.now }: AwsProverSettings): Prover {
  return {
    async verify({ method, nonce, vmId, poolId, document = "", callerIdentity }, { key, orgIs }) {
      if (document === "")
        throw new MigError("invalid_request", "aws.document is missing; the method aws needs it");
      const instance = readAwsDocument(document, keysOf);
      const { accountId, instanceId } = instance;
      if (vmId !== instanceId)
        throw new MigError(
          "forbidden",
          `this machine is ${instanceId}, and joins as that, not as ${vmId}; leave out vm_id`,
        );
      const pool = choosePool(pools(), poolId, ({ join }) => judgeAws(instance, join?.aws, nowMs()));
      orgIs(pool.orgId);
      const roles = pool.join?.aws?.roles ?? [];
      if (roles.length > 0) {
        if (callerIdentity === undefined)
          throw new MigError("forbidden", `the pool ${pool.id} wants a signed GetCallerIdentity as well`);
        const caller = await askAwsCaller(callerIdentity, joinChallenge(nonce, key.thumbprint), stsUrl);
        if (caller.account !== accountId || caller.session !== instanceId || !roles.includes(caller.role))
          throw new MigError(
            "forbidden",
            `the pool ${pool.id} takes no ${caller.role}/${caller.session} of ${caller.account} for ${instanceId}`,
          );
      }
      const claim = {
        method,
        instance: `aws:${accountId}/${instanceId}`,
        poolId: pool.id,
        orgId: pool.orgId,
        joinedBy: `aws:${accountId}/${instanceId}`,
        spend: async () => {},
      };
      return async () => claim;
    },
  };
}

/** Why a pool does not take an instance; undefined: it does. */
export function judgeAws(
  { accountId, region, imageId, pendingAtMs }: AwsInstance,
  policy: AwsPolicy | undefined,
  nowMs: number,
): string | undefined {
  if (policy === undefined) return "takes no instances of AWS (join.aws)";
  const { accounts, regions, images, maxAgeMs } = policy;
  if (!accounts.includes(accountId)) return `takes none of the account ${accountId}`;
  if (regions.length > 0 && !regions.includes(region)) return `takes none of the region ${region}`;
  if (images.length > 0 && !images.includes(imageId)) return `takes none of the image ${imageId}`;
  if (nowMs - pendingAtMs > maxAgeMs)
    return `takes none that was started more than ${Math.round(maxAgeMs / 1000)} s ago`;
  if (pendingAtMs - nowMs > skewMs) return "takes none that was started in the future";
  return undefined;
}
