import { MigError } from "@mig/lifecycle";
import type { NatsPeer } from "@mig/protocol";
import type { VmIdentities } from "../../identity/vm-identities.ts";
import { asOwn, demand, type Who } from "../auth.ts";
import type { Standing } from "../stream/standing.ts";

export interface NatsStandingSettings {
  /** Sample and development mode. */
  readonly isOpen: boolean;
  /** VMs without an identity may speak: all agents share a token, or the NATS server alone tells them apart. */
  readonly takesUnnamed: boolean;
  readonly identities: Pick<VmIdentities, "stands" | "find"> | undefined;
}

/**
 * By what right a message speaks for a VM. The NATS server has let it be published on that VM's subject with that epoch of
 * its identity; whether the identity still stands is asked with each message, from memory.
 */
export function createNatsStanding(settings: NatsStandingSettings): (peer: NatsPeer) => Promise<Standing> {
  const { isOpen, takesUnnamed, identities } = settings;
  const belongings = new Map<string, { epoch: number; who: Who }>();

  async function identify({ vmId, identityEpoch: epoch }: NatsPeer): Promise<Who> {
    if (isOpen) return "anybody";
    if (epoch === 0 && takesUnnamed) return { party: "agents" };
    if (identities === undefined || epoch === 0 || !(await identities.stands(vmId, epoch)))
      throw new MigError("unauthenticated", `the identity of ${vmId} was revoked or replaced`);
    const held = belongings.get(vmId);
    if (held?.epoch === epoch) return held.who;
    const row = await identities.find(vmId);
    if (row === undefined) throw new MigError("unauthenticated", `${vmId} has no identity; join again`);
    const who: Who = { party: "vm", vmId, poolId: row.poolId, orgId: row.orgId };
    if (belongings.size >= heldMax) belongings.clear();
    belongings.set(vmId, { epoch, who });
    return who;
  }

  return async (peer) => {
    const who = await identify(peer);
    demand(who, "vm.speak", { vmId: peer.vmId });
    return {
      own: (said) => asOwn(who, said),
      async recheck() {
        await identify(peer);
        return undefined;
      },
    };
  };
}

const heldMax = 20_000;
