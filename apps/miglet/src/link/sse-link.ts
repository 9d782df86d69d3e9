import { type Clock, type Log, systemClock } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import {
  type ControllerMessage,
  controllerMessageFromJson,
  type GoAway,
  maybe,
  PROTOCOL_VERSION,
  WireError,
} from "@mig/protocol";
import { boundHint } from "./bound-hint.ts";
import { parseEndpoint } from "./endpoint.ts";
import type { HttpCalls } from "./http-calls.ts";
import type { Link, LinkUp, OpenLinkListener, Speaker } from "./link.ts";
import { pathSegment } from "./path-segment.ts";
import { startSseCall } from "./sse-call.ts";
import type { StreamEvent } from "./sse-events.ts";
import type { TlsSource } from "./tls-material.ts";

export interface SseLinkSettings {
  endpoint: string;
  http: HttpCalls;
  speaker: Speaker;
  bearer?: (() => Promise<string | undefined>) | undefined;
  tls?: TlsSource | undefined;
  /** Outlives the link: what was seen on an earlier stream is not sent again on the next one. */
  cursor: { lastId?: string };
  connectMs: number;
  silentMs: number;
  log: Log;
  clock?: Clock | undefined;
}

/** Commands as server-sent events; up when the controller has greeted. Everything else goes by HTTP, as with polling. */
export async function openSseLink(
  settings: SseLinkSettings,
  listener: OpenLinkListener,
): Promise<{ link: Link; up: LinkUp }> {
  const { http, cursor, connectMs, silentMs, log, clock = systemClock } = settings;
  const url = addressOf(settings);
  const access = { token: await settings.bearer?.(), tls: (await settings.tls?.()) ?? {} };
  return new Promise((resolve, reject) => {
    let isUp = false;
    let isClosing = false;
    let goAway: GoAway | undefined;
    const cancelDeadline = clock.after(connectMs, () => {
      fail(unreachable(`${url.host} did not open an event stream within ${connectMs} ms.`));
      stop();
    });
    const fail = (why: MigError): void => {
      cancelDeadline();
      const hintMs = boundHint(goAway?.reconnectAfterMs);
      const reason =
        hintMs === undefined
          ? why
          : new MigError(why.code, `${why.message} (${goAway?.reason})`, {
              cause: why,
              retryAfterMs: hintMs,
            });
      if (!isUp) reject(reason);
      else if (!isClosing) listener.onDown(reason);
    };
    const link: Link = {
      channel: "sse",
      sendEvents: (events) => http.postEvents(events),
      sendHeartbeat: (beat) => http.postHeartbeat(beat),
      answer: (answer) => http.answerCommand(answer),
      async close() {
        isClosing = true;
        stop();
      },
    };
    const take = (message: ControllerMessage): void => {
      if (message.kind === "command" && isUp) listener.onCommand(message.command);
      else if (message.kind === "go_away") {
        goAway = message.goAway;
        listener.onGoAway(goAway);
      } else if (message.kind === "connect_ack" && !isUp) {
        const { reply } = message;
        if (!reply.accepted) {
          fail(new MigError("controller_refused", reply.message));
          stop();
          return;
        }
        isUp = true;
        cancelDeadline();
        resolve({
          link,
          up: {
            channel: "sse",
            protocolVersion: reply.protocolVersion,
            epoch: reply.epoch,
            ackedSeq: reply.ackedSeq,
            ...(reply.heartbeatIntervalMs > 0 ? { heartbeatIntervalMs: reply.heartbeatIntervalMs } : {}),
          },
        });
      }
    };
    const stop = startSseCall({
      url,
      ...access,
      lastId: cursor.lastId,
      silentMs,
      clock,
      onEvent(event) {
        try {
          take(messageOf(event, clock.nowMs()));
          if (event.id !== "") cursor.lastId = event.id;
        } catch (error) {
          log.warn({ error }, "An event that cannot be understood was skipped.");
        }
      },
      onEnd: fail,
    });
  });
}

function addressOf({ endpoint, speaker }: SseLinkSettings): URL {
  const base = parseEndpoint(endpoint);
  const query = new URLSearchParams({
    pool_id: speaker.poolId,
    version: speaker.version,
    incarnation: speaker.incarnation,
    miglet_state: speaker.migletState(),
    protocol_version: String(PROTOCOL_VERSION),
    ...maybe("org_id", speaker.orgId),
  });
  const path = `/api/v1/vms/${pathSegment(speaker.vmId)}/commands/stream?${query}`;
  return new URL(base.pathname.replace(/\/+$/, "") + path, base);
}

function messageOf({ event, data }: StreamEvent, nowMs: number): ControllerMessage {
  try {
    const body: unknown = JSON.parse(data);
    const isObject = typeof body === "object" && body !== null;
    return controllerMessageFromJson(isObject ? { ...body, kind: event } : body, nowMs);
  } catch (cause) {
    if (cause instanceof WireError) throw cause;
    throw new WireError("it is not JSON", { cause });
  }
}

const unreachable = (message: string): MigError => new MigError("controller_unreachable", message);
