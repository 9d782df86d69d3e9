/**
 * The names on NATS; controller and agent build them here and nowhere else. Below a prefix, "mig":
 *
 *   mig.connect.VM.IDENTITY.LINK    agent → any controller (queue group): opens a session
 *   mig.live.VM.IDENTITY.LINK       agent → the controller that has the session: what is worth something only now
 *   mig.up.VM.IDENTITY              agent → stream MIG_UP → any controller: what must not be lost
 *   mig.commands.VM.SESSION         controller → stream MIG_COMMANDS → agent
 *   mig.down.VM.IDENTITY.LINK       controller → agent: answers
 *   mig.inbox.VM.IDENTITY.>         the agent's replies of JetStream
 *
 * IDENTITY is the epoch of the VM's identity, so that what an old one may say can be told apart; 0 where VMs have none.
 * LINK is one opening of the channel, a random word that nobody else can guess. SESSION is the session's epoch.
 */
export interface NatsNames {
  readonly upStream: string;
  readonly commandStream: string;
  /** Of `mig.up`: all controllers share it. */
  readonly upConsumer: string;
  connect(peer: NatsPeer, link: string): string;
  live(peer: NatsPeer, link: string): string;
  up(peer: NatsPeer): string;
  down(peer: NatsPeer, link: string): string;
  inbox(peer: NatsPeer): string;
  commands(vmId: string, session: number | "*"): string;
  /** Of the VM's commands. */
  commandConsumer(vmId: string): string;
}

export interface NatsPeer {
  readonly vmId: string;
  readonly identityEpoch: number;
}

export const NATS_PREFIX_PATTERN = "^[a-z][a-z0-9-]{0,31}$";

/** Messages that are no JSON: is anybody there, and the end. */
export const natsWords = { ping: "PING", pong: "PONG", bye: "BYE" } as const;

/** Which link a message of `mig.up` came from: there the subject does not say it, so that a VM's share can be bounded. */
export const natsLinkHeader = "Mig-Link";

export function natsNames(prefix: string): NatsNames {
  const upper = prefix.toUpperCase().replaceAll("-", "_");
  const of = (lane: string, { vmId, identityEpoch }: NatsPeer): string =>
    `${prefix}.${lane}.${natsToken(vmId)}.${identityEpoch}`;
  return {
    upStream: `${upper}_UP`,
    commandStream: `${upper}_COMMANDS`,
    upConsumer: "controllers",
    connect: (peer, link) => `${of("connect", peer)}.${link}`,
    live: (peer, link) => `${of("live", peer)}.${link}`,
    up: (peer) => of("up", peer),
    down: (peer, link) => `${of("down", peer)}.${link}`,
    inbox: (peer) => of("inbox", peer),
    commands: (vmId, session) => `${prefix}.commands.${natsToken(vmId)}.${session}`,
    commandConsumer: natsToken,
  };
}

/** A subject's tokens are parted by dots, which an id may have; "=" it may not. */
export function natsToken(id: string): string {
  return id.replaceAll(".", "=");
}

/** Who published on a subject, which the server has checked; `link` where the subject has one. */
export function natsPeerOf(subject: string): { peer: NatsPeer; link: string | undefined } | undefined {
  const [, , vm, identity, link] = subject.split(".");
  if (vm === undefined || identity === undefined || !/^\d{1,9}$/.test(identity)) return undefined;
  return { peer: { vmId: vm.replaceAll("=", "."), identityEpoch: Number(identity) }, link };
}
