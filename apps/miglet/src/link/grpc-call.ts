import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type IncomingHttpHeaders,
} from "node:http2";
import { type ErrorCode, MigError } from "@mig/lifecycle";
import { maybe } from "@mig/protocol";
import { AGENT_STREAM_PATH } from "@mig/protocol/proto";
import { boundHint } from "./bound-hint.ts";
import { parseGrpcEndpoint } from "./endpoint.ts";
import { explainFailure } from "./explain-failure.ts";
import { createFrameReader, frameOf } from "./grpc-frames.ts";
import { readRetryAfter } from "./http-answer.ts";
import { openSocket } from "./open-socket.ts";
import type { TlsMaterial } from "./tls-material.ts";

const sendBytesMax = 4 * 1024 * 1024;
const lastWordsMs = 250;
/** Of a server that speaks TLS and did not take part in the negotiation. */
const noHttp2 = new Error("h2 is not supported");

export interface GrpcCallSettings {
  /** "https://host:port", "http://host:port" or "host:port" (plaintext). */
  endpoint: string;
  token: string | undefined;
  tls: TlsMaterial;
  onMessage(bytes: Uint8Array): void;
  /** Once, whatever ended the call. */
  onEnd(reason: MigError): void;
}

export interface GrpcCall {
  /** Resolves when the bytes were handed to the socket; rejects when the call has ended. */
  send(bytes: Uint8Array): Promise<void>;
  /** Half-close: says that nothing more will be sent. */
  finish(): void;
  /** Ends call and connection now. */
  destroy(): void;
}

/**
 * One bidirectional gRPC call on a connection of its own, on node:http2: a quarter of the memory of a gRPC library
 * (agent-runtime.md). No keepalive pings: existing controllers answer them with GOAWAY too_many_pings
 * (go-agent-wire §15), and heartbeats tell the same. HTTP/2 flow control is node's: it reads on as we consume.
 */
export function startGrpcCall(settings: GrpcCallSettings): GrpcCall {
  const { onMessage, onEnd, token } = settings;
  const url = parseGrpcEndpoint(settings.endpoint);
  let hasEnded = false;
  let hasAnswered = false;
  let status: number | undefined;
  let words = "";
  let retryAfterMs: number | undefined;
  const socket = openSocket(url, settings.tls);
  // The session hears its errors; one that comes after the session must not end the process.
  socket.on("error", () => {});
  const session: ClientHttp2Session = connect(url.origin, { createConnection: () => socket });
  const stream: ClientHttp2Stream = session.request({
    ":method": "POST",
    ":path": AGENT_STREAM_PATH,
    "content-type": "application/grpc",
    te: "trailers",
    "grpc-accept-encoding": "identity",
    "user-agent": "miglet",
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
  });

  const end = (why?: string): void => {
    if (hasEnded) return;
    hasEnded = true;
    // A server that speaks something else closes the connection, and node calls that a proper end.
    const silent = "the connection ended before anything was said: check whether it speaks gRPC, and TLS";
    const said = words === "" ? (why ?? (hasAnswered ? "the stream ended" : silent)) : words;
    const code = status === undefined ? undefined : codeOfStatus[status];
    const at = status === undefined ? "" : ` (status ${status})`;
    onEnd(
      new MigError(code ?? "controller_unreachable", `The stream to ${url.host} ended${at}: ${said}.`, {
        ...maybe("retryAfterMs", retryAfterMs),
      }),
    );
    shut();
  };
  const shut = (): void => {
    const destroy = (): void => {
      session.destroy();
      socket.destroy();
    };
    // A server that listens hears that the call is cancelled; one that does not must not keep the socket.
    const timer = setTimeout(destroy, hasAnswered && !stream.closed ? lastWordsMs : 0);
    stream.once("close", () => {
      clearTimeout(timer);
      setImmediate(destroy);
    });
    if (!stream.closed) stream.close(constants.NGHTTP2_CANCEL);
  };
  let streamFailure: string | undefined;
  /** When it ends because the connection broke, the session says why, and always a moment later. */
  const endOfStream = (): void => {
    if (hasEnded) return;
    if (!session.destroyed && !session.closed) end(streamFailure);
    else setTimeout(() => end(streamFailure), lastWordsMs).unref();
  };
  const note = (headers: IncomingHttpHeaders): void => {
    hasAnswered = true;
    const said = headers["grpc-status"];
    if (typeof said === "string" && /^\d{1,3}$/.test(said)) status = Number(said);
    const message = headers["grpc-message"];
    if (typeof message === "string") words = decodeWords(message).slice(0, 1024);
    const pushback = Number(headers["grpc-retry-pushback-ms"] ?? Number.NaN);
    retryAfterMs = boundHint(Number.isNaN(pushback) ? readRetryAfter(headers) : pushback) ?? retryAfterMs;
  };

  const frames = createFrameReader(onMessage);
  session.on("connect", () => {
    if (url.protocol === "https:" && session.alpnProtocol !== "h2") end(explainFailure(noHttp2));
  });
  session.on("error", (error) => end(explainFailure(error)));
  session.on("close", () => end(streamFailure));
  stream.on("response", (headers) => {
    note(headers);
    const http = Number(headers[":status"] ?? 0);
    if (http !== 200) end(`HTTP ${http} instead of gRPC`);
  });
  stream.on("trailers", note);
  stream.on("data", (chunk: Buffer) => {
    const problem = hasEnded ? undefined : frames(chunk);
    if (problem !== undefined) end(problem);
  });
  stream.on("end", () => setImmediate(endOfStream));
  stream.on("close", endOfStream);
  stream.on("error", (error) => {
    streamFailure = explainFailure(error);
    endOfStream();
  });

  return {
    send(bytes) {
      if (hasEnded) return Promise.reject(new MigError("controller_unreachable", "The stream has ended."));
      if (stream.writableLength + bytes.length > sendBytesMax) {
        end("the controller does not read what is sent");
        return Promise.reject(
          new MigError("controller_unreachable", "The stream was stuck and is given up."),
        );
      }
      return new Promise((resolve, reject) => {
        stream.write(frameOf(bytes), (error) => {
          if (error === null || error === undefined) resolve();
          else reject(new MigError("controller_unreachable", "The stream broke.", { cause: error }));
        });
      });
    },
    finish: () => void stream.end(),
    destroy: () => end("closed by us"),
  };
}

/** gRPC statuses that say something about this VM; every other end means: come back later. */
const codeOfStatus: Readonly<Record<number, ErrorCode>> = { 7: "forbidden", 16: "unauthenticated" };

function decodeWords(percentEncoded: string): string {
  try {
    return decodeURIComponent(percentEncoded);
  } catch {
    return percentEncoded;
  }
}
