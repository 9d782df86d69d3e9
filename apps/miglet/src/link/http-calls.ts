import { type Clock, formatDurationMs, type Log, systemClock } from "@mig/kit";
import {
  answerToJson,
  asObject,
  type Command,
  type CommandAnswer,
  commandFromJson,
  type EventAck,
  eventAckFromJson,
  eventToJson,
  type Heartbeat,
  type HeartbeatReply,
  heartbeatToJson,
  type JsonObject,
  PROTOCOL_VERSION,
  readNumber,
  toJsonObject,
  type VmEvent,
} from "@mig/protocol";
import { createHttpClient } from "./http-request.ts";

export interface HttpCallSettings {
  /** "http://host:port" or with a path. */
  endpoint: string;
  vmId: string;
  incarnation: string;
  bearer?: () => Promise<string | undefined>;
  ca?: string;
  timeoutMs?: number;
  log: Log;
  clock?: Clock;
}

/** The agent-facing HTTP API of DESIGN §8, as calls. Each throws MigError. */
export interface HttpCalls {
  postEvents(events: readonly VmEvent[]): Promise<EventAck>;
  postHeartbeat(beat: Heartbeat): Promise<HeartbeatReply | undefined>;
  /** At most `waitMs` held by the server. */
  getCommands(waitMs: number, migletState: string, signal: AbortSignal): Promise<Command[]>;
  answerCommand(answer: CommandAnswer): Promise<void>;
  /** The grant's JSON, keys as on the wire. */
  requestRegistrationToken(body: JsonObject): Promise<JsonObject>;
  close(): void;
}

export function createHttpCalls(settings: HttpCallSettings): HttpCalls {
  const { vmId, incarnation, log, clock = systemClock, timeoutMs = 30_000 } = settings;
  const client = createHttpClient(settings);
  const vm = `/api/v1/vms/${encodeURIComponent(vmId)}`;
  const post = (path: string, body: unknown): Promise<unknown> =>
    client.call({ method: "POST", path: vm + path, body, timeoutMs });
  let takesBatches = true;

  return {
    async postEvents(events) {
      // One event goes alone in its seed form, which a controller from before MIG understands too. Such a one says
      // nothing of sequence numbers; then its 200 is the acknowledgement, for one event at a time.
      const batch = takesBatches ? events : events.slice(0, 1);
      const [first] = batch;
      if (first === undefined) return { incarnation, upToSeq: 0, rejected: [] };
      const body = batch.length === 1 ? eventToJson(first) : { events: batch.map(eventToJson) };
      const answer = asObject(await post("/events", body)) ?? {};
      if (readNumber(answer, "up_to_seq") !== undefined) return eventAckFromJson(answer);
      takesBatches = false;
      const upToSeq = batch.length === 1 ? (first.seq ?? 0) : (first.seq ?? 1) - 1;
      return { incarnation: first.incarnation ?? incarnation, upToSeq, rejected: [] };
    },
    async postHeartbeat(beat) {
      const answer = asObject(await post("/heartbeat", heartbeatToJson(beat))) ?? {};
      const nextIntervalMs = readNumber(answer, "next_interval_ms");
      if (nextIntervalMs === undefined) return undefined;
      return { nextIntervalMs, serverTimeMs: readNumber(answer, "server_time_ms") ?? clock.nowMs() };
    },
    async getCommands(waitMs, migletState, signal) {
      const query = new URLSearchParams({
        wait: formatDurationMs(waitMs),
        incarnation,
        miglet_state: migletState,
        protocol_version: String(PROTOCOL_VERSION),
      });
      const answer = await client.call({
        method: "GET",
        path: `${vm}/commands?${query}`,
        timeoutMs: waitMs + 15_000,
        signal,
      });
      // Sample controllers from before MIG answer `commands: null` (go-agent-wire §15).
      const list = asObject(answer)?.["commands"];
      return (Array.isArray(list) ? list : []).flatMap((item: unknown) => {
        try {
          return [commandFromJson(item, clock.nowMs())];
        } catch (error) {
          log.warn({ error }, "A command that cannot be understood was skipped.");
          return [];
        }
      });
    },
    async answerCommand(answer) {
      await post(`/commands/${encodeURIComponent(answer.commandId)}/ack`, answerToJson(answer));
    },
    async requestRegistrationToken(body) {
      return toJsonObject(await post("/registration-token", body));
    },
    close: () => client.close(),
  };
}
