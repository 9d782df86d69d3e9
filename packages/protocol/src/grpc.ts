import type { ServiceDefinition } from "@grpc/grpc-js";
import { AGENT_STREAM_PATH } from "./proto.ts";

/**
 * `CommandService` for @grpc/grpc-js. Messages stay bytes here: `session/` decodes them, so that a message which
 * cannot be read ends one stream with INVALID_ARGUMENT instead of surfacing as an internal error of the library.
 */
export const commandService = {
  streamCommands: {
    path: AGENT_STREAM_PATH,
    requestStream: true,
    responseStream: true,
    requestSerialize: (bytes: Uint8Array): Buffer => Buffer.from(bytes),
    requestDeserialize: (bytes: Buffer): Uint8Array => bytes,
    responseSerialize: (bytes: Uint8Array): Buffer => Buffer.from(bytes),
    responseDeserialize: (bytes: Buffer): Uint8Array => bytes,
  },
} as const satisfies ServiceDefinition;
