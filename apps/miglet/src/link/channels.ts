import type { Clock, Log } from "@mig/kit";
import type { ControllerClock } from "./controller-clock.ts";
import type { HttpCalls } from "./http-calls.ts";
import type { Channel, Link, LinkUp, OpenLinkListener, Speaker } from "./link.ts";
import type { LinkTiming } from "./link-timing.ts";
import type { NatsSettings } from "./nats-access.ts";
import { openPollLink } from "./poll-link.ts";
import type { TlsSource } from "./tls-material.ts";

/** What channels are made of; each takes what it needs. */
export interface ChannelParts {
  speaker: Speaker;
  /** Undefined when no HTTP endpoint is configured: then events and heartbeats need a stream. */
  http: HttpCalls | undefined;
  /** "https://host:port", "http://host:port" or "host:port" (plaintext); undefined = no gRPC. */
  grpcEndpoint: string | undefined;
  /** controller.endpoint, for channels that stay open; undefined = none of them. */
  httpEndpoint?: string | undefined;
  /** Undefined: the channel nats is not wanted. */
  nats?: NatsSettings | undefined;
  bearer?: (() => Promise<string | undefined>) | undefined;
  tls?: TlsSource | undefined;
  /** The last command that came as a server-sent event. */
  cursor: { lastId?: string };
  controllerClock?: ControllerClock | undefined;
  timing: LinkTiming;
  log: Log;
  clock: Clock;
}

/** Resolves when the channel is up; rejects with a MigError that says why it is not. */
type OpenChannel = (listener: OpenLinkListener) => Promise<{ link: Link; up: LinkUp }>;

/**
 * Every channel, the best first: `auto` takes the first that opens and climbs up again later. Each entry answers how to
 * open it, or undefined when the settings do not have what it needs. What a VM may never use is loaded when it does.
 */
export const channelTable: readonly (readonly [Channel, (parts: ChannelParts) => OpenChannel | undefined])[] =
  [
    [
      "nats",
      ({ nats, timing, bearer: _bearer, ...parts }) =>
        nats === undefined
          ? undefined
          : async (listener) => {
              const { openNatsLink } = await import("./nats-link.ts");
              return openNatsLink({ ...parts, ...timing, nats }, listener);
            },
    ],
    [
      "grpc",
      ({ grpcEndpoint: endpoint, timing, ...parts }) =>
        endpoint === undefined
          ? undefined
          : async (listener) => {
              const { openGrpcLink } = await import("./grpc-link.ts");
              return openGrpcLink({ ...parts, ...timing, endpoint }, listener);
            },
    ],
    [
      "websocket",
      ({ httpEndpoint: endpoint, timing, ...parts }) =>
        endpoint === undefined
          ? undefined
          : async (listener) => {
              const { openWsLink } = await import("./ws-link.ts");
              return openWsLink({ ...parts, ...timing, endpoint }, listener);
            },
    ],
    [
      "sse",
      ({ httpEndpoint: endpoint, http, timing, ...parts }) =>
        endpoint === undefined || http === undefined
          ? undefined
          : async (listener) => {
              const { openSseLink } = await import("./sse-link.ts");
              const { connectMs, streamSilentMs: silentMs } = timing;
              return openSseLink({ ...parts, endpoint, http, connectMs, silentMs }, listener);
            },
    ],
    [
      "poll",
      ({ http, timing, speaker, clock }) =>
        http === undefined
          ? undefined
          : (listener) =>
              openPollLink(
                { http, speaker, waitMs: timing.pollWaitMs, pauseMs: timing.pollPauseMs, clock },
                listener,
              ),
    ],
  ];
