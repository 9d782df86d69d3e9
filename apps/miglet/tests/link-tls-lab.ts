import type { IncomingMessage } from "node:http";
import {
  createSecureServer,
  type Http2SecureServer,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type SecureServerOptions,
  type ServerHttp2Session,
} from "node:http2";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import { decodeAgentMessage, encodeControllerMessage } from "@mig/protocol/proto";
import type { TestCertificate } from "@mig/sandbox";
import { createFrameReader, frameOf } from "../src/link/grpc-frames.ts";
import { friendly, type StreamOfAgent } from "./link-lab.ts";
import { friendlyWs, serveWs } from "./link-ws-lab.ts";

/** What a connection brought: one for each TLS connection that was accepted. */
export interface SeenConnection {
  servername: string | false | null;
  alpn: string | false | null;
  protocol: string | null;
  /** Common name of the client's certificate. */
  client: string | undefined;
}

export interface TlsLab {
  port: number;
  connections: SeenConnection[];
  streams: StreamOfAgent[];
  sessions: Set<ServerHttp2Session>;
  /** For new connections; those that are open live on. */
  use(certificate: TestCertificate): void;
  close(): Promise<void>;
}

/** Nothing newer than TLS 1.1, which OpenSSL gives only to who asks for it and Bun's BoringSSL to everybody. */
export const oldTls: SecureServerOptions = {
  minVersion: "TLSv1",
  maxVersion: "TLSv1.1",
  ...("bun" in process.versions ? {} : { ciphers: "DEFAULT@SECLEVEL=0" }),
};

/**
 * A controller's port as DESIGN §3 has it: TLS, where ALPN decides between gRPC and HTTP/1.1. It accepts every agent and
 * answers every request.
 */
export async function startTlsLab(
  certificate: TestCertificate,
  options: SecureServerOptions = {},
): Promise<TlsLab> {
  const server: Http2SecureServer = createSecureServer(
    { cert: certificate.certPem, key: certificate.keyPem, allowHTTP1: true, ...options },
    answerHttp,
  );
  const sockets = new Set<TLSSocket>();
  const lab: TlsLab = {
    port: 0,
    connections: [],
    streams: [],
    sessions: new Set(),
    use: ({ certPem, keyPem }) => server.setSecureContext({ cert: certPem, key: keyPem }),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
  server.on("secureConnection", (socket: TLSSocket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => {});
    const { servername, alpnProtocol } = socket as TLSSocket & { servername: string | false };
    const subject = socket.getPeerCertificate()?.subject as { CN?: string } | undefined;
    lab.connections.push({
      servername,
      alpn: alpnProtocol,
      protocol: socket.getProtocol(),
      client: subject?.CN,
    });
  });
  server.on("session", (session) => {
    lab.sessions.add(session);
    session.on("error", () => {});
    session.on("close", () => lab.sessions.delete(session));
  });
  for (const event of ["tlsClientError", "sessionError", "clientError"]) server.on(event, () => {});
  server.on("stream", (stream, headers) => {
    if (headers["content-type"] !== "application/grpc") return;
    stream.on("error", () => {});
    stream.respond({ ":status": 200, "content-type": "application/grpc" });
    const one: StreamOfAgent = {
      say: (message) => void stream.write(frameOf(encodeControllerMessage(message))),
      end: () => void stream.end(),
    };
    lab.streams.push(one);
    const read = createFrameReader((bytes) => {
      const message = decodeAgentMessage(bytes, Date.now());
      if (message !== undefined) friendly(message, one);
    });
    stream.on("data", (chunk: Buffer) => read(chunk));
    stream.on("end", () => stream.end());
  });
  server.on("upgrade", (request: IncomingMessage, socket: Duplex, first: Buffer) => {
    const head = `GET\r\nSec-WebSocket-Key: ${request.headers["sec-websocket-key"]}`;
    const take = serveWs(socket, head, friendlyWs, { streams: [], heard: [], frames: [] });
    take(first);
    socket.on("data", take).on("error", () => {});
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  lab.port = (server.address() as AddressInfo).port;
  return lab;
}

function answerHttp(request: Http2ServerRequest, response: Http2ServerResponse): void {
  if (request.httpVersionMajor === 2) return;
  request.resume();
  if (request.url.includes("/commands/stream")) {
    response.setHeader("content-type", "text/event-stream");
    response.write(
      `event: connect_ack\ndata: ${JSON.stringify({ accepted: true, protocol_version: 1 })}\n\n`,
    );
    return;
  }
  request.on("end", () => {
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ commands: [], next_interval_ms: 5000, server_time_ms: Date.now() }));
  });
}
