import type {
  Command,
  CommandAnswer,
  Connect,
  ConnectReply,
  ControllerMessage,
  EventAck,
  GoAway,
  Heartbeat,
  HeartbeatReply,
  JsonObject,
  VmEvent,
} from "@mig/protocol";
import type { Grant, GrantRequest, Removal } from "../github/grant-source.ts";
import type { Origin } from "../operator/cancel-command.ts";
import type { OnceKey } from "../operator/idempotency.ts";

export type { Grant, GrantRequest };

/**
 * The desk: everything a listener may ask of the controller. A listener decodes and authenticates, calls the desk,
 * encodes the answer, and decides nothing. All promises reject with MigError.
 *
 * Ids are checked here, not by the listeners: `vmId` from a path, a message or a token is refused with
 * `invalid_request` when it is not an id, and `vm_mismatch` when a body names another VM than the path.
 */
export interface Desk {
  /** Resolves when every event is committed or refused; nothing is acknowledged from memory. */
  recordEvents(vmId: string, events: VmEvent[]): Promise<EventAck>;
  /** How long the oldest of the events that are not stored yet has waited; 0 when none is. */
  queueAgeMs(): number;
  /** The VM has said something that nobody looked at. */
  hear(vmId: string): void;
  beat(vmId: string, beat: Heartbeat): Promise<HeartbeatReply>;
  /** `beforeMig`: the answer came over a stream whose agent announced no protocol version. */
  answer(vmId: string, answer: CommandAnswer, beforeMig: boolean): Promise<CommandView>;
  /**
   * Opens the one live session of a VM. The newest wins: an older one is told to go away. `lastSeen`: the id of the last
   * command that the peer says it has got; it comes again only when its acknowledgement is overdue.
   */
  open(connect: Connect, channel: Channel, wire: Wire, lastSeen?: string): Promise<Session>;
  /** At most one command; waits up to `waitMs` for it. A newer poll of the VM ends an older one with `superseded`. */
  poll(vmId: string, poll: Poll, signal: AbortSignal): Promise<Command[]>;
  issueGrant(vmId: string, request: GrantRequest): Promise<Grant>;
  /** The VM wants to stop its idle runner: asks GitHub to take the registration away first. */
  releaseRunner(vmId: string): Promise<Removal>;

  queueCommand(vmId: string, order: Order): Promise<CommandView>;
  findVm(vmId: string): Promise<VmView>;
  listVms(filter: VmFilter): Promise<{ vms: VmView[]; nextCursor: string | null }>;
}

export type Channel = "grpc" | "websocket" | "sse" | "poll" | "nats";

/** The listener's end of a stream. `send` answers false when the peer is too slow: the session is then closed. */
export interface Wire {
  send(message: ControllerMessage): boolean;
  /** Says go_away where the peer understands it and ends the stream soon after. Called at most once. */
  end(goAway: GoAway): void;
}

export interface Session {
  readonly reply: ConnectReply;
  readonly beforeMig: boolean;
  /** Call once the reply has been sent: commands may come from now on, and not before. */
  ready(): void;
  /** The stream has ended, for whatever reason. Idempotent; an older session never removes a newer one. */
  close(): void;
}

export interface Poll {
  waitMs: number;
  incarnation?: string;
  migletState?: string;
  protocolVersion: number;
}

export interface Order {
  type: string;
  parameters: JsonObject;
  /** Who ordered it, for the record: an operator's name, or "controller". */
  by: string;
  /** Milliseconds from now; after it an undelivered command is dropped. Default 1 h. */
  expiresInMs?: number;
  /** An operator's order: written to the audit log, in the same transaction. */
  origin?: Origin;
  /** Carried out once, however often it is sent (`Idempotency-Key`). */
  once?: OnceKey;
}

/** A command as an operator sees it: no secrets, all its times. */
export interface CommandView {
  id: string;
  vmId: string;
  seq: number;
  type: string;
  parameters: JsonObject;
  state: string;
  attempt: number;
  createdBy: string;
  createdAtMs: number;
  expiresAtMs: number | null;
  sentAtMs: number | null;
  acknowledgedAtMs: number | null;
  finishedAtMs: number | null;
  message: string | null;
  result: JsonObject | null;
}

export interface VmFilter {
  /** Only of these organizations. */
  orgIds?: readonly string[];
  poolId?: string;
  orgId?: string;
  state?: string;
  reachability?: string;
  limit: number;
  cursor?: string;
}

/** Seed 000 "VM State", with more. Renders to snake_case JSON in `listen/http/render.ts`. */
export interface VmView {
  vmId: string;
  poolId: string;
  orgId: string;
  state: string;
  reachability: string;
  runnerState: string;
  migletState: string | null;
  currentJob: JsonObject | null;
  health: JsonObject | null;
  lastHeartbeatMs: number | null;
  lastSeenMs: number;
  createdAtMs: number;
  updatedAtMs: number;
  incarnation: string;
  life: number;
  runnerName: string | null;
  agentVersion: string | null;
  protocolVersion: number;
  channel: string | null;
  epoch: number;
  ackedSeq: number;
  drained: JsonObject | null;
  problem: JsonObject | null;
}
