import type { MigError } from "@mig/lifecycle";
import type {
  Command,
  CommandAnswer,
  EventAck,
  GoAway,
  Heartbeat,
  HeartbeatReply,
  VmEvent,
} from "@mig/protocol";

/** How a MIGlet and the controller talk. The other channels of DESIGN §2 get their own file each. */
export const channels = ["nats", "grpc", "websocket", "sse", "poll"] as const;
export type Channel = (typeof channels)[number];

/** On these, events, heartbeats and answers go by HTTP in any case. */
export const channelsByHttp: ReadonlySet<Channel> = new Set<Channel>(["sse", "poll"]);

/** What an open link carries, whatever the channel. */
export interface Link {
  readonly channel: Channel;
  /** Resolves when the controller has answered for the batch; the answer may cover a part of it. */
  sendEvents(events: readonly VmEvent[]): Promise<EventAck>;
  /** Undefined: it was sent, but this controller does not answer heartbeats. */
  sendHeartbeat(beat: Heartbeat): Promise<HeartbeatReply | undefined>;
  answer(answer: CommandAnswer): Promise<void>;
  close(): Promise<void>;
}

/** What the controller said when the channel opened. The poll channel knows only some of it. */
export interface LinkUp {
  channel: Channel;
  /** 0 = a controller from before MIG. */
  protocolVersion: number;
  epoch?: number;
  heartbeatIntervalMs?: number;
  ackedSeq?: number;
}

/**
 * Why the controller does not want this VM. `incarnation_lost`: it wrote this boot off. `settings_invalid`: they say
 * another pool than the one that the VM has joined.
 */
export interface Refusal {
  code: "controller_refused" | "incarnation_lost" | "unauthenticated" | "forbidden" | "settings_invalid";
  message: string;
}

/** Called in the order things happen; none may throw. */
export interface LinkListener {
  onUp(up: LinkUp): void;
  onDown(reason: MigError): void;
  onCommand(command: Command): void;
  onGoAway(goAway: GoAway): void;
  onRefused(refusal: Refusal): void;
}

/** What one open link tells whoever opened it. After `onDown` it is over. */
export type OpenLinkListener = Pick<LinkListener, "onDown" | "onCommand" | "onGoAway">;

/** Who speaks: the same in every message. */
export interface Speaker {
  vmId: string;
  poolId: string;
  orgId?: string | undefined;
  incarnation: string;
  /** Of the agent, for people. */
  version: string;
  /** The agent's own state at this moment. */
  migletState(): string;
}
