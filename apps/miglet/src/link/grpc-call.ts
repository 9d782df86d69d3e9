import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from "node:http2";
import { MigError } from "@mig/lifecycle";
import { AGENT_STREAM_PATH } from "@mig/protocol/proto";

const receiveBytesMax = 4 * 1024 * 1024;
const sendBytesMax = 4 * 1024 * 1024;

export interface GrpcEnd {
  /** Of the call; undefined when the connection broke before the server said anything. */
  status: number | undefined;
  message: string;
}

export interface GrpcCallSettings {
  /** "http://host:port", "https://host:port" or "host:port" (plaintext). */
  endpoint: string;
  token: string | undefined;
  ca?: string | undefined;
  onMessage(bytes: Uint8Array): void;
  /** Once, whatever ended the call. */
  onEnd(end: GrpcEnd): void;
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
  const url = parseGrpcEndpoint(settings.endpoint);
  let hasEnded = false;
  let status: number | undefined;
  let words = "";
  const session: ClientHttp2Session = connect(url.origin, {
    ...(settings.ca === undefined ? {} : { ca: settings.ca }),
  });
  const stream: ClientHttp2Stream = session.request({
    ":method": "POST",
    ":path": AGENT_STREAM_PATH,
    "content-type": "application/grpc",
    te: "trailers",
    "grpc-accept-encoding": "identity",
    "user-agent": "miglet",
    ...(settings.token === undefined ? {} : { authorization: `Bearer ${settings.token}` }),
  });

  const end = (why?: string): void => {
    if (hasEnded) return;
    hasEnded = true;
    settings.onEnd({ status, message: words === "" ? (why ?? "the stream ended") : words });
    if (!stream.closed) stream.close(constants.NGHTTP2_CANCEL);
    session.close();
    // A peer that does not answer must not keep the socket for ever.
    const timer = setTimeout(() => session.destroy(), 1000);
    timer.unref();
    session.once("close", () => clearTimeout(timer));
  };
  const note = (headers: Readonly<Record<string, unknown>>): void => {
    const said = headers["grpc-status"];
    if (typeof said === "string") status = Number(said);
    const message = headers["grpc-message"];
    if (typeof message === "string") words = decodeWords(message);
  };

  const frames = createFrameReader(settings.onMessage);
  session.on("error", (error) => end(error.message));
  session.on("close", () => end("the connection closed"));
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
  stream.on("end", () => setImmediate(end));
  stream.on("close", () => end());
  stream.on("error", (error) => end(error.message));

  return {
    send(bytes) {
      if (hasEnded) return Promise.reject(new MigError("controller_unreachable", "The stream has ended."));
      if (stream.writableLength + bytes.length > sendBytesMax) {
        end("the controller does not read what is sent");
        return Promise.reject(
          new MigError("controller_unreachable", "The stream was stuck and is given up."),
        );
      }
      const frame = Buffer.allocUnsafe(5 + bytes.length);
      frame[0] = 0;
      frame.writeUInt32BE(bytes.length, 1);
      frame.set(bytes, 5);
      return new Promise((resolve, reject) => {
        stream.write(frame, (error) => {
          if (error === null || error === undefined) resolve();
          else reject(new MigError("controller_unreachable", "The stream broke.", { cause: error }));
        });
      });
    },
    finish: () => void stream.end(),
    destroy: () => end("closed by us"),
  };
}

export function parseGrpcEndpoint(endpoint: string): URL {
  try {
    const url = new URL(/^[a-z]+:\/\//i.test(endpoint) ? endpoint : `http://${endpoint}`);
    if (/^https?:$/.test(url.protocol)) return url;
  } catch {
    // Said below.
  }
  throw new MigError("settings_invalid", `controller.grpc_endpoint "${endpoint}" is not host:port or a URL.`);
}

/** Splits what arrives into messages; answers what is wrong with it, or undefined. */
export function createFrameReader(
  onMessage: (bytes: Uint8Array) => void,
): (chunk: Buffer) => string | undefined {
  let chunks: Buffer[] = [];
  let size = 0;
  return (chunk) => {
    chunks.push(chunk);
    size += chunk.length;
    while (size >= 5) {
      const head = peek(chunks, 5);
      if (head[0] !== 0) return "a compressed message came, though none was asked for";
      const length = head.readUInt32BE(1);
      if (length > receiveBytesMax) return `a message of ${length} bytes is over the limit`;
      if (size < 5 + length) return undefined;
      const all = chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks);
      const rest = all.subarray(5 + length);
      chunks = rest.length === 0 ? [] : [rest];
      size = rest.length;
      onMessage(all.subarray(5, 5 + length));
    }
    return undefined;
  };
}

function peek(chunks: readonly Buffer[], length: number): Buffer {
  const [first] = chunks;
  return first !== undefined && first.length >= length ? first : Buffer.concat(chunks).subarray(0, length);
}

function decodeWords(percentEncoded: string): string {
  try {
    return decodeURIComponent(percentEncoded);
  } catch {
    return percentEncoded;
  }
}
