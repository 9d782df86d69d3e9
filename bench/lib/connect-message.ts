import { encodeAgentMessage } from "@mig/protocol/proto";

/** What a client of a bench says first over gRPC: an idle agent of its own boot. */
export function connectMessage(vmId: string): Uint8Array {
  return encodeAgentMessage({
    kind: "connect",
    connect: {
      ...{ vmId, poolId: "p", version: "bench" },
      ...{ protocolVersion: 1, incarnation: "i-1", migletState: "idle" },
    },
  });
}
