import { systemClock } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { natsNames } from "@mig/protocol";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { explainFailure } from "./explain-failure.ts";
import type { HttpCalls } from "./http-calls.ts";
import type { Link, LinkUp, OpenLinkListener } from "./link.ts";
import { findNatsAccess, type NatsAccess, type NatsSettings } from "./nats-access.ts";
import { startNatsCall } from "./nats-call.ts";
import { openStreamLink, type StreamLinkSettings } from "./stream-link.ts";
import { type TlsMaterial, tlsRules } from "./tls-material.ts";

export interface NatsLinkSettings extends Omit<StreamLinkSettings, "endpoint" | "bearer"> {
  readonly nats: NatsSettings;
  readonly http: HttpCalls | undefined;
  readonly natsPingMs: number;
}

/** A server that is back is found within it; the link lives on meanwhile, until a heartbeat stays unanswered. */
const reconnectMs = 500;

/** The stream over NATS JetStream (seed 003, option 4): the same messages in JSON as over a WebSocket. */
export async function openNatsLink(
  settings: NatsLinkSettings,
  listener: OpenLinkListener,
): Promise<{ link: Link; up: LinkUp }> {
  const { nats, http, speaker, connectMs, natsPingMs: pingMs, answerMs, log, clock = systemClock } = settings;
  const access = await findNatsAccess(nats, speaker.vmId, http);
  const connection = await open(access, (await settings.tls?.()) ?? {}, connectMs);
  return openStreamLink(
    {
      channel: "nats",
      start: (_access, call) => startNatsCall({ connection, access, pingMs, answerMs, log, clock }, call),
    },
    { ...settings, endpoint: `NATS at ${access.urls.join(", ")}` },
    listener,
  );
}

async function open(access: NatsAccess, tls: TlsMaterial, connectMs: number): Promise<NatsConnection> {
  const { urls, peer, authenticator, prefix } = access;
  try {
    return await connect({
      servers: urls.map((url) => new URL(url).host),
      name: peer.vmId,
      timeout: connectMs,
      maxReconnectAttempts: -1,
      reconnectTimeWait: reconnectMs,
      inboxPrefix: natsNames(prefix).inbox(peer),
      ...(authenticator === undefined ? {} : { authenticator }),
      ...(urls.some((url) => url.startsWith("tls:")) ? { tls: { ...tlsRules, ...tls } } : {}),
    });
  } catch (cause) {
    throw new MigError(
      "controller_unreachable",
      `NATS at ${urls.join(", ")} cannot be used: ${explainFailure(cause)}.`,
      { cause },
    );
  }
}
