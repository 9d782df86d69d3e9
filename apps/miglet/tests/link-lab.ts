import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { Server as GrpcServer, ServerCredentials, type ServerDuplexStream } from "@grpc/grpc-js";
import { silentLog } from "@mig/kit";
import type { AgentMessage, ConnectReply, ControllerMessage, VmEvent } from "@mig/protocol";
import { commandService } from "@mig/protocol/grpc";
import { decodeAgentMessage, encodeControllerMessage } from "@mig/protocol/proto";
import type { LinkTiming } from "../src/link/choose-link.ts";
import { createHttpCalls, type HttpCallSettings, type HttpCalls } from "../src/link/http-calls.ts";
import type { Speaker } from "../src/link/link.ts";

/** What the tests of the links share: a real gRPC server and a real HTTP server that do as they are told. */
export const speaker: Speaker = {
  vmId: "vm-1",
  poolId: "pool-1",
  incarnation: "boot-install",
  version: "0.1.0",
  migletState: () => "ready",
};

export const quick: Partial<LinkTiming> = {
  reconnectFirstMs: 20,
  reconnectCapMs: 60,
  refusedFirstMs: 300,
  refusedCapMs: 600,
  stableMs: 10_000,
  retryUpMs: 60,
  connectMs: 2000,
  answerMs: 200,
  pollWaitMs: 200,
  pollPauseMs: 100,
};

export const accepted: ConnectReply = {
  accepted: true,
  message: "",
  serverVersion: "test",
  epoch: 1,
  protocolVersion: 1,
  heartbeatIntervalMs: 15_000,
  ackedSeq: 0,
  serverTimeMs: 0,
};

export interface StreamOfAgent {
  say(message: ControllerMessage): void;
  /** Ends the call with this gRPC status; OK when absent. */
  end(status?: number, details?: string): void;
}

export interface GrpcLab {
  port: number;
  endpoint: string;
  streams: StreamOfAgent[];
  heard: AgentMessage[];
  authorizations: (string | undefined)[];
  close(): Promise<void>;
}

type Handler = (message: AgentMessage, stream: StreamOfAgent, lab: GrpcLab) => void;

export async function startGrpcLab(handle: Handler, port = 0): Promise<GrpcLab> {
  const server = new GrpcServer();
  const lab: GrpcLab = {
    port: 0,
    endpoint: "",
    streams: [],
    heard: [],
    authorizations: [],
    close: async () => server.forceShutdown(),
  };
  server.addService(commandService, {
    streamCommands: (call: ServerDuplexStream<Uint8Array, Uint8Array>) => {
      const stream: StreamOfAgent = {
        say: (message) => void call.write(encodeControllerMessage(message)),
        end: (status, details = "") => {
          if (status === undefined) call.end();
          else call.emit("error", { code: status, details });
        },
      };
      lab.streams.push(stream);
      lab.authorizations.push(call.metadata.get("authorization")[0]?.toString());
      call.on("data", (bytes: Uint8Array) => {
        const message = decodeAgentMessage(bytes, Date.now());
        if (message === undefined) return;
        lab.heard.push(message);
        handle(message, stream, lab);
      });
      call.on("end", () => call.end());
      call.on("error", () => {});
    },
  });
  lab.port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(`127.0.0.1:${port}`, ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  lab.endpoint = `127.0.0.1:${lab.port}`;
  return lab;
}

/** A controller that accepts and acknowledges everything. */
export const friendly = (message: AgentMessage, stream: Pick<StreamOfAgent, "say">): void => {
  if (message.kind === "connect") stream.say({ kind: "connect_ack", reply: accepted });
  if (message.kind === "heartbeat")
    stream.say({ kind: "heartbeat_ack", reply: { nextIntervalMs: 5000, serverTimeMs: 1 } });
  if (message.kind === "event")
    stream.say({
      kind: "event_ack",
      ack: { incarnation: message.event.incarnation ?? "", upToSeq: message.event.seq ?? 0, rejected: [] },
    });
};

export interface HttpReply {
  status?: number;
  headers?: Record<string, string>;
  body?: unknown;
  afterMs?: number;
}

export interface HttpLab {
  endpoint: string;
  requests: { method: string; url: string; body: string; authorization: string | undefined }[];
  /** That were ever opened. */
  connections(): number;
  close(): Promise<void>;
}

export async function startHttpLab(
  answer: (request: { method: string; url: string; body: string }) => HttpReply,
): Promise<HttpLab> {
  const requests: HttpLab["requests"] = [];
  const server: Server = createServer((request, response) => {
    void readAll(request).then((body) => {
      const { method = "", url = "" } = request;
      requests.push({ method, url, body, authorization: request.headers.authorization });
      const { status = 200, headers = {}, body: reply = {}, afterMs = 0 } = answer({ method, url, body });
      setTimeout(() => {
        response.writeHead(status, { "content-type": "application/json", ...headers });
        response.end(typeof reply === "string" ? reply : JSON.stringify(reply));
      }, afterMs);
    });
  });
  let connections = 0;
  server.on("connection", () => {
    connections += 1;
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    connections: () => connections,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function readAll(request: IncomingMessage): Promise<string> {
  let text = "";
  for await (const chunk of request) text += String(chunk);
  return text;
}

export const httpCalls = (endpoint: string, more: Partial<HttpCallSettings> = {}): HttpCalls =>
  createHttpCalls({
    endpoint,
    vmId: "vm-1",
    incarnation: speaker.incarnation,
    log: silentLog,
    timeoutMs: 2000,
    ...more,
  });

export const vmEvent = (seq: number): VmEvent => ({
  type: "job_heartbeat",
  vmId: "vm-1",
  poolId: "pool-1",
  incarnation: speaker.incarnation,
  occurredAtMs: 1,
  eventId: `id-${seq}`,
  seq,
  data: { n: seq },
});
