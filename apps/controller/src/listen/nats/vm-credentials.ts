import { MigError } from "@mig/lifecycle";
import { isId, limits, type NatsPeer } from "@mig/protocol";
import { encodeUser } from "@nats-io/jwt";
import { fromPublic, fromSeed } from "@nats-io/nkeys";
import type { NatsConfig } from "../../config/nats.ts";
import { permissionsOf } from "./permissions.ts";

/** What an agent needs to use the channel: answered to `POST /api/v1/vms/{vm_id}/nats`. */
export interface NatsOffer {
  readonly servers: readonly string[];
  readonly prefix: string;
  readonly identityEpoch: number;
  readonly jwt?: string;
  readonly expiresInMs?: number;
}

export interface NatsOffers {
  /** `publicKey`: the agent's own; its seed never leaves the VM. */
  make(peer: NatsPeer, publicKey: string, untilMs: number): Promise<NatsOffer>;
}

/** Two subscriptions, and some for JetStream. */
const subscriptionsMax = 32;

/**
 * A user JWT that the account's key signs: the NATS server holds every publish and every subscription against it, and ends
 * the connection when it expires. No server has to be told of a VM.
 */
export function createNatsOffers(config: NatsConfig): NatsOffers {
  const { agentUrls: servers, prefix, accountSeed, account } = config;
  return {
    async make(peer, publicKey, untilMs) {
      // A name with a wildcard in it would be every VM's subject.
      if (!isId(peer.vmId)) throw new MigError("invalid_request", "vm_id is not an id");
      const common = { servers, prefix, identityEpoch: peer.identityEpoch };
      if (accountSeed === undefined) return common;
      const signer = fromSeed(Buffer.from(accountSeed.reveal()));
      const { publish, subscribe } = permissionsOf(prefix, peer);
      const jwt = await encodeUser(
        peer.vmId,
        fromPublic(publicKey),
        account === undefined ? signer : fromPublic(account),
        {
          pub: { allow: [...publish] },
          sub: { allow: [...subscribe] },
          subs: subscriptionsMax,
          payload: limits.messageBytesMax,
          allowed_connection_types: ["STANDARD"],
        },
        { exp: Math.floor(untilMs / 1_000), ...(account === undefined ? {} : { signer }) },
      );
      return { ...common, jwt, expiresInMs: untilMs - Date.now() };
    },
  };
}
