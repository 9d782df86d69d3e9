import type { IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import { Server, type ServerOptions } from "@grpc/grpc-js";
import { MigError } from "@mig/lifecycle";

type StreamHandler = (interceptors: unknown, stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void;

/**
 * grpc-js answers a call to an unknown method, or with another content type, without looking whether its stream is
 * still there (1.14.x, `_respondWithError`). A client that opens such a stream and resets it in the same breath makes
 * that answer throw out of an event, which ends the whole process: anybody could, without a token. So the library does
 * not hear of streams that are over already. Its handler has no public name; without it we do not start.
 */
export function createResetProofServer(options: ServerOptions): Server {
  const server = new Server(options);
  const inside = server as unknown as { _streamHandler?: StreamHandler };
  const handle = inside._streamHandler;
  if (typeof handle !== "function")
    throw new MigError("internal", "grpc-js has changed inside: look at reset-proof-server.ts");
  inside._streamHandler = (interceptors, stream, headers) => {
    if (stream.destroyed || stream.closed) {
      stream.on("error", () => {}); // a reset is one, and nobody else listens
      return;
    }
    handle.call(server, interceptors, stream, headers);
  };
  return server;
}
