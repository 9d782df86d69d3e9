import { type ConnectReply, PRODUCT_VERSION, PROTOCOL_VERSION } from "@mig/protocol";

/** The answer to a `connect` that gets no session. */
export function refusal(message: string): ConnectReply {
  return {
    accepted: false,
    message,
    serverVersion: PRODUCT_VERSION,
    epoch: 0,
    protocolVersion: PROTOCOL_VERSION,
    heartbeatIntervalMs: 0,
    ackedSeq: 0,
    serverTimeMs: Date.now(),
  };
}
