import { systemClock } from "@mig/kit";
import { agentMessageToJson, controllerMessageFromJson, WireError } from "@mig/protocol";
import { parseEndpoint } from "./endpoint.ts";
import { createFrameBatch } from "./frame-batch.ts";
import type { Link, LinkUp, OpenLinkListener } from "./link.ts";
import { pathSegment } from "./path-segment.ts";
import { openStreamLink, type StreamLinkSettings } from "./stream-link.ts";
import { startWsCall } from "./ws-call.ts";

/** The stream over a WebSocket below controller.endpoint: messages are JSON (DESIGN §8). */
export async function openWsLink(
  settings: StreamLinkSettings,
  listener: OpenLinkListener,
): Promise<{ link: Link; up: LinkUp }> {
  const { endpoint, speaker, clock = systemClock } = settings;
  const base = parseEndpoint(endpoint);
  const path = `/api/v1/vms/${pathSegment(speaker.vmId)}/commands/ws`;
  const url = new URL(base.pathname.replace(/\/+$/, "") + path, base);
  return openStreamLink(
    {
      channel: "websocket",
      start(access, { onMessage, onEnd }) {
        const call = startWsCall({
          url,
          ...access,
          onMessage: (text) => onMessage(() => controllerMessageFromJson(parse(text), clock.nowMs())),
          onEnd,
        });
        const batch = createFrameBatch((text) => call.send(text));
        return {
          send: (message) => batch.send(JSON.stringify(agentMessageToJson(message))),
          sendEvent: (message) => batch.queue(JSON.stringify(agentMessageToJson(message))),
          finish: () => call.finish(),
          destroy: () => call.destroy(),
        };
      },
    },
    settings,
    listener,
  );
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new WireError("it is not JSON", { cause });
  }
}
