import type { Socket } from "node:net";
import { ServerCredentials, type ServerDuplexStream } from "@grpc/grpc-js";
import { pause } from "@mig/kit";
import { limits } from "@mig/protocol";
import { commandService } from "@mig/protocol/grpc";
import { AgentStream } from "./agent-stream.ts";
import type { GrpcParts } from "./grpc-parts.ts";
import { createResetProofServer } from "./reset-proof-server.ts";

export interface GrpcEdge {
  take(socket: Socket): void;
  /** Tells every agent to come back later, then takes the connections down, within `graceMs`. */
  close(graceMs: number): Promise<void>;
}

/** Streams that one connection may hold; an agent needs one, and a second while it replaces the first. */
const streamsPerConnectionMax = 16;

/** gRPC without a port of its own: the doors hand it sockets that have begun to speak HTTP/2. */
export function createGrpcEdge(parts: GrpcParts): GrpcEdge {
  const streams = new Set<AgentStream>();
  const server = createResetProofServer({
    "grpc.keepalive_time_ms": 20_000,
    "grpc.keepalive_timeout_ms": 10_000,
    // A client that says its preface and nothing else, or keeps a connection without a stream.
    "grpc.max_connection_idle_ms": parts.idleMs,
    "grpc.max_receive_message_length": limits.messageBytesMax,
    "grpc.max_concurrent_streams": streamsPerConnectionMax,
    // In megabytes; without it one connection may queue frames until the process has no memory left.
    "grpc-node.max_session_memory": 16,
    "grpc.enable_channelz": 0,
  });
  server.addService(commandService, {
    streamCommands(call: ServerDuplexStream<Uint8Array, Uint8Array>) {
      const stream = new AgentStream(call, parts);
      streams.add(stream);
      stream.whenClosed(() => streams.delete(stream));
    },
  });
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  return {
    take: (socket) => injector.injectConnection(socket),
    async close(graceMs) {
      const goodbyeMs = Math.min(graceMs, 1_000);
      for (const stream of streams) stream.sayGoodbye(graceMs);
      injector.drain(goodbyeMs);
      const untilMs = performance.now() + goodbyeMs;
      while (streams.size > 0 && performance.now() < untilMs) await pause(20);
      injector.destroy();
      server.forceShutdown();
    },
  };
}
