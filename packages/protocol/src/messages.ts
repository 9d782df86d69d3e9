/**
 * What a MIGlet and a controller say to each other, whatever carries it. `proto.ts` and `json.ts` turn these into
 * the wire and back; nothing else in the system knows the wire.
 *
 * Times are unix milliseconds. What a peer from before MIG does not send is optional here.
 */
export type JsonValue = string | number | boolean | null | JsonValue[] | JsonObject;
export interface JsonObject {
  [key: string]: JsonValue;
}

/** Seed 000 R4.1 and seed 001 "Event Types", then ours. Other types are stored but mean nothing to the controller. */
export const eventTypes = [
  "vm_started",
  "runner_registered",
  "job_started",
  "job_heartbeat",
  "job_completed",
  "runner_crashed",
  "vm_shutting_down",
  "error",
  "vm_terminated", // the agent's last word: nothing of it will follow
  "events_dropped", // stands in the place of events that the spool could not keep
  "spool_degraded", // the VM's disk refuses writes: events wait in memory, or are on disk again
  "preemption_notice", // the cloud will take the VM away
] as const;
export type EventType = (typeof eventTypes)[number];

export interface VmEvent {
  type: string;
  vmId: string;
  poolId: string;
  orgId?: string;
  occurredAtMs: number;
  /** UUIDv7 made by the agent. */
  eventId?: string;
  /** 1, 2, 3 … without a gap within one incarnation. */
  seq?: number;
  /** One boot of one agent install. */
  incarnation?: string;
  /** The rest, with the wire's own key names (`job_id`, `runner_url`, …); read it with `event-data.ts`. */
  data: JsonObject;
}

/** Every event of the incarnation up to `upToSeq` is committed; the refused ones need not be sent again if permanent. */
export interface EventAck {
  incarnation: string;
  upToSeq: number;
  rejected: EventRejection[];
}

export interface EventRejection {
  seq: number;
  code: string;
  message: string;
  permanent: boolean;
}

export const commandTypes = [
  "register_runner",
  "drain",
  "shutdown",
  "update_config",
  "set_log_level",
  "collect_diagnostics",
] as const;
export type CommandType = (typeof commandTypes)[number];

export interface Command {
  id: string;
  type: string;
  parameters: JsonObject;
  createdAtMs: number;
  expiresAtMs?: number;
  /** 1 on the first delivery. */
  attempt: number;
}

export type AnswerStage = "received" | "result";

/** `received` = understood and journalled, about to act. `result` = done, or refused (success false). */
export interface CommandAnswer {
  commandId: string;
  /** Absent from agents before MIG. */
  stage?: AnswerStage;
  success: boolean;
  message?: string;
  result?: JsonObject;
}

export interface VmHealth {
  cpuUsagePercent: number;
  /** One-minute load average. */
  cpuLoad: number;
  memoryUsedBytes: number;
  memoryTotalBytes: number;
  diskUsedBytes: number;
  diskTotalBytes: number;
  /** Since the machine started, all interfaces but loopback. */
  networkReceivedBytes?: number;
  networkSentBytes?: number;
}

export const runnerStates = ["idle", "running", "offline"] as const;
export type RunnerState = (typeof runnerStates)[number];

export interface RunnerReport {
  state: RunnerState;
  configured: boolean;
  name?: string;
  labels: string[];
}

export interface JobReport {
  jobId: string;
  runId: string;
  repository?: string;
  branch?: string;
  commit?: string;
  status?: string;
  startedAtMs?: number;
}

export interface Heartbeat {
  vmId: string;
  poolId: string;
  orgId?: string;
  incarnation?: string;
  migletState?: string;
  sentAtMs: number;
  health?: VmHealth;
  runner?: RunnerReport;
  currentJob?: JobReport;
}

export interface HeartbeatReply {
  nextIntervalMs: number;
  serverTimeMs: number;
}

export interface Connect {
  vmId: string;
  poolId: string;
  orgId?: string;
  version: string;
  incarnation?: string;
  /** 0 = an agent from before MIG. */
  protocolVersion: number;
  migletState?: string;
}

export interface ConnectReply {
  accepted: boolean;
  message: string;
  serverVersion: string;
  epoch: number;
  /** 0 = a controller from before MIG, which acknowledges no event. */
  protocolVersion: number;
  heartbeatIntervalMs: number;
  ackedSeq: number;
  serverTimeMs: number;
}

export interface ErrorNotice {
  code: string;
  message: string;
  details: Record<string, string>;
  atMs: number;
}

export interface GoAway {
  /** shutting_down, superseded, slow_consumer, incarnation_lost; another word means no more than "go". */
  reason: string;
  /** Do not come back earlier. The server has already spread it. */
  reconnectAfterMs: number;
  /** The stream ends after this many milliseconds. */
  deadlineMs: number;
}

export type AgentMessage =
  | { kind: "connect"; connect: Connect }
  | { kind: "event"; event: VmEvent }
  | { kind: "heartbeat"; heartbeat: Heartbeat }
  | { kind: "ack"; answer: CommandAnswer }
  | { kind: "error"; error: ErrorNotice };

export type ControllerMessage =
  | { kind: "connect_ack"; reply: ConnectReply }
  | { kind: "command"; command: Command }
  | { kind: "event_ack"; ack: EventAck }
  | { kind: "heartbeat_ack"; reply: HeartbeatReply }
  | { kind: "go_away"; goAway: GoAway }
  | { kind: "error"; error: ErrorNotice };

export function isEventType(type: string): type is EventType {
  return (eventTypes as readonly string[]).includes(type);
}

export function isCommandType(type: string): type is CommandType {
  return (commandTypes as readonly string[]).includes(type);
}
