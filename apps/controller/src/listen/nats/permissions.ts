import { type NatsPeer, natsNames } from "@mig/protocol";

export interface NatsPermissions {
  readonly publish: readonly string[];
  readonly subscribe: readonly string[];
}

/**
 * What one VM may do on NATS. It cannot name a subject of another VM. Where the server answers to a subject that the VM
 * chose (JetStream does), the words are the controller's or the server's, not the VM's: for what such words could do to
 * another VM see docs/decisions/0012-nats.md.
 */
export function permissionsOf(prefix: string, peer: NatsPeer): NatsPermissions {
  const names = natsNames(prefix);
  const box = `${names.commandStream}.${names.commandConsumer(peer.vmId)}`;
  return {
    publish: [
      names.connect(peer, "*"),
      names.live(peer, "*"),
      names.up(peer),
      `$JS.API.CONSUMER.INFO.${box}`,
      `$JS.API.CONSUMER.MSG.NEXT.${box}`,
      `$JS.ACK.${box}.>`,
    ],
    subscribe: [names.down(peer, "*"), `${names.inbox(peer)}.>`],
  };
}
