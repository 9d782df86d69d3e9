import { type IncomingMessage, type RequestListener, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { pause } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { limits } from "@mig/protocol";
import { type WebSocket, WebSocketServer } from "ws";
import { AgentStream } from "./agent-stream.ts";
import { framePace } from "./pace-limit.ts";
import type { Handshake, WsParts } from "./ws-parts.ts";

/** The messages of DESIGN §8. A client that does not choose it is one of seed 003 and gets commands alone. */
export const subprotocol = "mig.v1";

export interface WsEdge {
  /** A request that wants to become a socket goes the way of any other, guard and all, until a route accepts it. */
  route(request: IncomingMessage, socket: Socket, head: Buffer, routes: RequestListener): void;
  /** Answers 101, or throws when the handshake is not one. The caller's reply must be hijacked after. */
  accept(request: IncomingMessage, response: ServerResponse, who: Omit<Handshake, "knowsKinds">): void;
  /** Tells every agent to come back later, then cuts what is left after `graceMs`. */
  close(graceMs: number): Promise<void>;
}

/** The rest of a closing handshake; who does not finish it is cut. */
const closeMs = 1_000;
const handshakeMs = 10_000;
const keyPattern = /^[+/0-9A-Za-z]{22}==$/;

export function isWebSocket({ headers }: Pick<IncomingMessage, "headers">): boolean {
  return headers.upgrade?.toLowerCase() === "websocket";
}

/** WebSocket without a port of its own: the HTTP app's routes hand it requests. */
export function createWsEdge(parts: WsParts): WsEdge {
  const heads = new WeakMap<IncomingMessage, { socket: Socket; head: Buffer }>();
  const open = new Map<WebSocket, AgentStream>();
  const server = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: limits.messageBytesMax,
    closeTimeout: closeMs,
    // More than the burst that a peer may send at once; what is beyond waits for one that does not read.
    maxPendingAutoPongs: framePace.burst + 50,
    maxFragments: 1_024,
    maxBufferedChunks: 4_096,
    handleProtocols: () => subprotocol,
  } as ConstructorParameters<typeof WebSocketServer>[0]);

  return {
    route(request, socket, head, routes) {
      socket.on("error", () => socket.destroy());
      const response = new ServerResponse(request);
      response.shouldKeepAlive = false;
      response.once("finish", () => socket.end(() => socket.destroy()));
      socket.setTimeout(handshakeMs, () => socket.destroy());
      heads.set(request, { socket, head });
      try {
        response.assignSocket(socket);
        routes(request, response);
      } catch {
        // The answer to an earlier request of this connection is still under way.
        socket.destroy();
      }
    },
    accept(request, response, who) {
      const held = heads.get(request);
      if (held === undefined)
        throw new MigError("refused", "upgrade this connection to WebSocket (RFC 6455)");
      const knowsKinds = checkHandshake(request);
      const { socket, head } = held;
      response.detachSocket(socket);
      server.handleUpgrade(request, socket, head, (ws) => {
        open.set(ws, new AgentStream(ws, { ...who, knowsKinds }, parts));
        ws.once("close", () => open.delete(ws));
      });
    },
    async close(graceMs) {
      for (const stream of open.values()) stream.sayGoodbye(graceMs);
      const untilMs = performance.now() + Math.min(graceMs, closeMs);
      while (open.size > 0 && performance.now() < untilMs) await pause(20);
      for (const ws of open.keys()) ws.terminate();
    },
  };
}

/** Whether it chose our subprotocol. What is wrong with a handshake is told like any other error, before the 101. */
function checkHandshake({ headers, method }: IncomingMessage): boolean {
  if (method !== "GET") throw new MigError("invalid_request", "a WebSocket begins with GET");
  if (headers["sec-websocket-version"] !== "13")
    throw new MigError("invalid_request", "sec-websocket-version is 13");
  if (!keyPattern.test(headers["sec-websocket-key"] ?? ""))
    throw new MigError("invalid_request", "sec-websocket-key is 16 bytes in base64");
  // Only browsers bring it, and a page of somebody else's must not speak for whoever looks at it.
  if (headers.origin !== undefined && headers.origin.replace(/^https?:\/\//, "") !== headers.host)
    throw new MigError("forbidden", "this WebSocket is not for pages of another origin");
  const offered = headers["sec-websocket-protocol"];
  if (offered === undefined) return false;
  if (offered.split(",").some((one) => one.trim() === subprotocol)) return true;
  throw new MigError("invalid_request", `the only subprotocol here is ${subprotocol}`);
}
