import type { CommandState, Reachability, VmState } from "@mig/lifecycle";
import type { JsonObject, RunnerState } from "@mig/protocol";
import type { Table } from "./table.ts";

/** The rows of migrations/, as the code sees them. Times are unix milliseconds by the database's clock. */
export interface VmRow {
  vmId: string;
  poolId: string;
  orgId: string;
  /** The current one. Agents from before MIG have none; the controller then counts `before-mig-1`, `-2`, … */
  incarnation: string;
  /** Counts the incarnations of this VM. */
  life: number;
  state: VmState;
  reachability: Reachability;
  runnerState: RunnerState;
  /** As the agent last reported it; any word. */
  migletState: string | null;
  currentJob: JsonObject | null;
  health: JsonObject | null;
  agentVersion: string | null;
  protocolVersion: number;
  runnerName: string | null;
  /** register_runner commands queued in this life. */
  registrations: number;
  /** The receipt of a drain: nothing runs here and nothing will. */
  drained: JsonObject | null;
  /** Why the VM is in `error`, or what the controller could not do for it. */
  problem: JsonObject | null;
  sessionEpoch: number;
  sessionChannel: string | null;
  commandSeq: number;
  lastHeartbeatMs: number | null;
  lastSeenMs: number;
  createdAtMs: number;
  updatedAtMs: number;
}

export const vmsTable: Table<VmRow> = {
  name: "vms",
  columns: {
    vmId: "text",
    poolId: "text",
    orgId: "text",
    incarnation: "text",
    life: "int",
    state: "text",
    reachability: "text",
    runnerState: "text",
    migletState: "text",
    currentJob: "json",
    health: "json",
    agentVersion: "text",
    protocolVersion: "int",
    runnerName: "text",
    registrations: "int",
    drained: "json",
    problem: "json",
    sessionEpoch: "int",
    sessionChannel: "text",
    commandSeq: "int",
    lastHeartbeatMs: "time",
    lastSeenMs: "time",
    createdAtMs: "time",
    updatedAtMs: "time",
  },
};

export interface IncarnationRow {
  vmId: string;
  incarnation: string;
  ackedSeq: number;
  /** It is or was the VM's current one, not only told of later by its spooled events. */
  lived: boolean;
  beganAtMs: number;
}

export const incarnationsTable: Table<IncarnationRow> = {
  name: "incarnations",
  columns: { vmId: "text", incarnation: "text", ackedSeq: "int", lived: "bool", beganAtMs: "time" },
};

export interface EventRow {
  vmId: string;
  poolId: string;
  orgId: string;
  incarnation: string;
  seq: number | null;
  eventId: string;
  type: string;
  occurredAtMs: number;
  receivedAtMs: number;
  payload: JsonObject;
  /** Why it could not be understood; it is kept all the same. */
  refused: string | null;
}

export const eventsTable: Table<EventRow> = {
  name: "events",
  columns: {
    vmId: "text",
    poolId: "text",
    orgId: "text",
    incarnation: "text",
    seq: "int",
    eventId: "text",
    type: "text",
    occurredAtMs: "time",
    receivedAtMs: "time",
    payload: "json",
    refused: "text",
  },
};

export interface CommandRow {
  id: string;
  vmId: string;
  seq: number;
  type: string;
  parameters: JsonObject;
  /** May overtake commands that wait (reliability-security C3): shutdown now. */
  urgent: boolean;
  state: CommandState;
  attempt: number;
  /** The incarnation it is meant for; null = whichever comes, because the VM was unknown when it was queued. */
  incarnation: string | null;
  /** The session it was last sent on. */
  sessionEpoch: number | null;
  createdBy: string;
  message: string | null;
  result: JsonObject | null;
  notBeforeMs: number;
  createdAtMs: number;
  expiresAtMs: number | null;
  sentAtMs: number | null;
  acknowledgedAtMs: number | null;
  finishedAtMs: number | null;
}

export const commandsTable: Table<CommandRow> = {
  name: "commands",
  columns: {
    id: "text",
    vmId: "text",
    seq: "int",
    type: "text",
    parameters: "json",
    urgent: "bool",
    state: "text",
    attempt: "int",
    incarnation: "text",
    sessionEpoch: "int",
    createdBy: "text",
    message: "text",
    result: "json",
    notBeforeMs: "time",
    createdAtMs: "time",
    expiresAtMs: "time",
    sentAtMs: "time",
    acknowledgedAtMs: "time",
    finishedAtMs: "time",
  },
};

export interface JobRow {
  id: string;
  vmId: string;
  poolId: string;
  orgId: string;
  incarnation: string;
  jobId: string;
  runId: string;
  details: JsonObject;
  result: string | null;
  startedAtMs: number;
  completedAtMs: number | null;
}

export const jobsTable: Table<JobRow> = {
  name: "jobs",
  columns: {
    id: "text",
    vmId: "text",
    poolId: "text",
    orgId: "text",
    incarnation: "text",
    jobId: "text",
    runId: "text",
    details: "json",
    result: "text",
    startedAtMs: "time",
    completedAtMs: "time",
  },
};

export interface HeartbeatRow {
  vmId: string;
  atMs: number;
  body: JsonObject;
}

export const heartbeatsTable: Table<HeartbeatRow> = {
  name: "heartbeats",
  columns: { vmId: "text", atMs: "time", body: "json" },
};
