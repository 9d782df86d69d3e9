import { createServer, type Server, type Socket } from "node:net";
import { TLSSocket } from "node:tls";
import type { Address } from "../config/values.ts";
import { Buckets } from "./buckets.ts";
import type { TlsEdge } from "./tls/tls-edge.ts";

/**
 * One TCP port for HTTP/1.1 and gRPC over HTTP/2. A socket is
 *
 * wrapped    if the port speaks TLS: its handshake has as long as the first bytes (tls/tls-edge.ts)
 * unknown    until its first bytes tell what it speaks. An HTTP/2 client begins with a fixed preface and a SETTINGS
 *            frame (RFC 9113 §3.4); the door waits for the head of that frame too, because neither Node's HTTP/2 nor
 *            grpc-js bounds the time until it comes. Silent for longer than the bound: closed
 * handed     to the HTTP server or to the gRPC server, which bound everything after that
 * closed     by either side, at any moment
 *
 * Existing agents dial gRPC at whatever address they were given for HTTP (reference/go-agent-wire.md §4).
 */
export interface Door {
  readonly address: Address;
  readonly connections: number;
  /** No new connections; those that are open go on. */
  stopListening(): void;
  /** Cuts what is left. */
  destroyAll(): void;
}

export interface DoorSettings {
  address: Address;
  connectionsMax: number;
  /** More are closed at once; five times as many may come after a quiet time. */
  connectionsPerSecond: number;
  firstBytesMs: number;
  /** Undefined: plaintext. */
  tls: TlsEdge | undefined;
  onHttp(socket: Socket): void;
  onGrpc(socket: Socket): void;
  /** The cap is reached; the connection was closed. */
  onFull(): void;
}

const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");
const frameHeadBytes = 9;
const settingsFrame = 0x4;

export async function openDoor(settings: DoorSettings): Promise<Door> {
  const sockets = new Set<Socket>();
  const pace = new Buckets({
    perSecond: settings.connectionsPerSecond,
    burst: settings.connectionsPerSecond * 5,
  });
  const read = (socket: Socket): void => readFirstBytes(socket, settings);
  const begin = settings.tls?.into(read) ?? read;
  // An HTTP client may close its half after the request and still waits for the answer.
  const server = createServer({ allowHalfOpen: true, noDelay: true, keepAlive: true }, (socket) => {
    if (pace.take("", performance.now()) > 0) {
      settings.onFull();
      socket.destroy();
      return;
    }
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    // A reset can come before, during and after every hand-over; without a listener it would end the process.
    socket.on("error", () => socket.destroy());
    begin(socket);
  });
  server.maxConnections = settings.connectionsMax;
  server.on("drop", settings.onFull);
  await listen(server, settings.address);
  const bound = server.address();
  const port = typeof bound === "object" && bound !== null ? bound.port : settings.address.port;
  return {
    address: { host: settings.address.host, port },
    get connections() {
      return sockets.size;
    },
    stopListening: () => void server.close(),
    destroyAll() {
      for (const socket of sockets) socket.destroy();
    },
  };
}

function readFirstBytes(socket: Socket, settings: DoorSettings): void {
  let seen: Buffer = Buffer.alloc(0);
  const timer = setTimeout(() => socket.destroy(), settings.firstBytesMs);
  const forget = (): void => {
    clearTimeout(timer);
    socket.off("data", read);
    socket.off("end", giveUp);
    socket.off("close", forget);
  };
  const giveUp = (): void => {
    forget();
    socket.destroy();
  };
  const handOver = (take: (socket: Socket) => void): void => {
    forget();
    socket.pause();
    socket.unshift(seen);
    take(socket);
  };
  const read = (chunk: Buffer): void => {
    seen = seen.length === 0 ? chunk : Buffer.concat([seen, chunk]);
    const kind = agreed(socket, recognize(seen));
    if (kind === "http") {
      handOver(settings.onHttp);
      // The bytes seen are still in the socket's buffer; the HTTP server waits for them to flow. HTTP/2 fetches them.
      socket.resume();
    } else if (kind === "grpc") handOver(settings.onGrpc);
    else if (kind === "garbage") giveUp();
  };
  socket.on("data", read);
  socket.once("end", giveUp);
  socket.once("close", forget);
}

type Kind = "http" | "grpc" | "garbage" | undefined;

/**
 * Over TLS both sides have named the protocol already, and another one on top of it is an attack or a mistake. Only a
 * client of HTTP/1.1 may have named none.
 */
function agreed(socket: Socket, kind: Kind): Kind {
  if (!(socket instanceof TLSSocket)) return kind;
  const isHttp2 = socket.alpnProtocol === "h2";
  if (kind === "http" && isHttp2) return "garbage";
  return kind === "grpc" && !isHttp2 ? "garbage" : kind;
}

/** Undefined: more bytes are needed. What does not begin like HTTP/2 is for the HTTP parser to judge. */
export function recognize(bytes: Buffer): Kind {
  const common = Math.min(bytes.length, preface.length);
  if (bytes.compare(preface, 0, common, 0, common) !== 0) {
    // A method of HTTP/1.1 could share "PR" (PROPFIND) with the preface; one that shares more is broken HTTP/2.
    return bytes.subarray(0, 3).equals(preface.subarray(0, 3)) ? "garbage" : "http";
  }
  if (bytes.length < preface.length + frameHeadBytes) return undefined;
  return bytes[preface.length + 3] === settingsFrame ? "grpc" : "garbage";
}

function listen(server: Server, { host, port }: Address): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host, port, backlog: 1024 }, () => {
      server.off("error", reject);
      server.on("error", () => {}); // accept() may fail when descriptors run out; the next one is tried again
      resolve();
    });
  });
}
