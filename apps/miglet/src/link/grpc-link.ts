import { systemClock } from "@mig/kit";
import { decodeControllerMessage, encodeAgentMessage } from "@mig/protocol/proto";
import { startGrpcCall } from "./grpc-call.ts";
import type { Link, LinkUp, OpenLinkListener } from "./link.ts";
import type { StreamCall } from "./stream-call.ts";
import { openStreamLink, type StreamLinkSettings } from "./stream-link.ts";

/** The stream over gRPC: messages are protobuf. */
export function openGrpcLink(
  settings: StreamLinkSettings,
  listener: OpenLinkListener,
): Promise<{ link: Link; up: LinkUp }> {
  const { endpoint, clock = systemClock } = settings;
  return openStreamLink(
    {
      channel: "grpc",
      start(access, { onMessage, onEnd }) {
        const call = startGrpcCall({
          endpoint,
          ...access,
          onMessage: (bytes) => onMessage(() => decodeControllerMessage(bytes, clock.nowMs())),
          onEnd,
        });
        const send: StreamCall["send"] = (message) => call.send(encodeAgentMessage(message));
        return {
          send,
          sendEvent: send,
          finish: () => call.finish(),
          destroy: () => call.destroy(),
        };
      },
    },
    settings,
    listener,
  );
}
