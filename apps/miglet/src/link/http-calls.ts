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
  readText,
  toJsonObject,
  type VmEvent,
  writeContentDigest,
} from "@mig/protocol";
import type { ControllerClock } from "./controller-clock.ts";
import { createHoldOff } from "./hold-off.ts";
import { createHttpClient } from "./http-request.ts";
import { pathSegment } from "./path-segment.ts";
import type { TlsSource } from "./tls-material.ts";

export interface HttpCallSettings {
  /** "https://host:port" or with a path. */
  endpoint: string;
  vmId: string;
  incarnation: string;
  bearer?: () => Promise<string | undefined>;
  tls?: TlsSource | undefined;
  timeoutMs?: number;
  /** For a heartbeat, which a controller answers from memory; what waits longer has met a dead connection. */
  heartbeatMs?: number;
  /** Learns the controller's time from heartbeats and the header Date. */
  controllerClock?: ControllerClock | undefined;
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
  /** Where NATS is, and credentials there for this key; keys as on the wire. */
  requestNatsAccess(publicKey: string): Promise<JsonObject>;
  /** The grant's JSON, keys as on the wire. */
  requestRegistrationToken(body: JsonObject): Promise<JsonObject>;
  /** Brings a gzipped bundle; resolves when the controller has stored it. `sha256` in hexadecimal. */
  putDiagnostics(commandId: string, bytes: Buffer, sha256: string, signal: AbortSignal): Promise<void>;
  /** Asks the controller to have GitHub let this VM's runner go. */
  releaseRunner(): Promise<"removed" | "busy" | "unknown">;
  close(): void;
}

/** A held request that brings nothing is answered by then; later means that the connection is dead. */
const pollSlackMsMax = 5_000;
/** A heartbeat costs the controller next to nothing, and a VM that is silent for two minutes is written off. */
const heartbeatHoldMsMax = 30_000;

/** A megabyte over a bad line; the controller waits for a whole request for no longer. */
const bundleMs = 30_000;

/** GitHub is asked meanwhile. A drain that waits for longer goes by what the agent sees itself. */
const releaseMs = 10_000;

export function createHttpCalls(settings: HttpCallSettings): HttpCalls {
  const { vmId, incarnation, log, controllerClock, clock = systemClock, timeoutMs = 30_000 } = settings;
  const pollSlackMs = Math.min(timeoutMs, pollSlackMsMax);
  const heartbeatMs = Math.min(timeoutMs, settings.heartbeatMs ?? 10_000);
  const client = createHttpClient(settings);
  const holdOff = createHoldOff(clock);
  const vm = `/api/v1/vms/${pathSegment(vmId)}`;
  const post = (kind: string, path: string, body: unknown): Promise<unknown> =>
    holdOff.run(kind, () => client.call({ method: "POST", path: vm + path, body, timeoutMs }));
  let takesBatches = true;

  return {
    async postEvents(events) {
      // One event goes alone in its seed form, which a controller from before MIG understands too. Such a one says
      // nothing of sequence numbers; then its 200 is the acknowledgement, for one event at a time.
      const batch = takesBatches ? events : events.slice(0, 1);
      const [first] = batch;
      if (first === undefined) return { incarnation, upToSeq: 0, rejected: [] };
      const body = batch.length === 1 ? eventToJson(first) : { events: batch.map(eventToJson) };
      const answer = asObject(await post("events", "/events", body)) ?? {};
      if (readNumber(answer, "up_to_seq") !== undefined) return eventAckFromJson(answer);
      takesBatches = false;
      const upToSeq = batch.length === 1 ? (first.seq ?? 0) : (first.seq ?? 1) - 1;
      return { incarnation: first.incarnation ?? incarnation, upToSeq, rejected: [] };
    },
    async postHeartbeat(beat) {
      const call = {
        method: "POST",
        path: `${vm}/heartbeat`,
        body: heartbeatToJson(beat),
        timeoutMs: heartbeatMs,
      } as const;
      const sentAtMs = clock.monotonicMs();
      const answer =
        asObject(await holdOff.run("heartbeat", () => client.call(call), heartbeatHoldMsMax)) ?? {};
      controllerClock?.note(sentAtMs, readNumber(answer, "server_time_ms") ?? 0);
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
      const path = `${vm}/commands?${query}`;
      const answer = await holdOff.run("commands", () =>
        client.call({ method: "GET", path, timeoutMs: Math.max(heartbeatMs, waitMs + pollSlackMs), signal }),
      );
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
      await post("answers", `/commands/${pathSegment(answer.commandId)}/ack`, answerToJson(answer));
    },
    async requestNatsAccess(publicKey) {
      return toJsonObject(await post("nats", "/nats", { public_key: publicKey }));
    },
    async requestRegistrationToken(body) {
      return toJsonObject(await post("registration", "/registration-token", body));
    },
    async putDiagnostics(commandId, bytes, sha256, signal) {
      const content = { bytes, type: "application/gzip", digest: writeContentDigest(sha256) };
      const path = `${vm}/diagnostics/${pathSegment(commandId)}`;
      await holdOff.run("diagnostics", () =>
        client.call({ method: "PUT", path, content, timeoutMs: Math.max(timeoutMs, bundleMs), signal }),
      );
    },
    async releaseRunner() {
      const call = { method: "POST", path: `${vm}/runner/release`, body: {}, timeoutMs: releaseMs } as const;
      const said = readText(
        asObject(await holdOff.run("release", () => client.call(call))) ?? {},
        "registration",
      );
      return said === "removed" || said === "busy" ? said : "unknown";
    },
    close: () => client.close(),
  };
}
