import { createHash } from "node:crypto";
import { type AddressInfo, createServer, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import {
  type AgentMessage,
  agentMessageFromJson,
  type ControllerMessage,
  controllerMessageToJson,
} from "@mig/protocol";
import { friendly } from "./link-lab.ts";

/** A WebSocket server of a few lines on a plain socket, the same on both runtimes, that can also misbehave. */
export interface WsOfAgent {
  say(message: ControllerMessage): void;
  sayBytes(bytes: Buffer): void;
  close(code: number, reason?: string): void;
  /** Stops reading. */
  pause(): void;
  /** As a stream of the gRPC lab, so that the same handlers serve both. */
  end(): void;
}

export interface WsLab {
  port: number;
  endpoint: string;
  streams: WsOfAgent[];
  heads: string[];
  heard: AgentMessage[];
  /** Text frames and control frames, by opcode. */
  frames: { opcode: number; payload: Buffer }[];
  close(): Promise<void>;
}

export type WsHandler = (message: AgentMessage, stream: WsOfAgent) => void;
export const friendlyWs: WsHandler = (message, stream) => friendly(message, stream);

/** A server's frame: not masked. */
export function serverFrame(opcode: number, payload: Buffer | string, isLast = true): Buffer {
  const body = Buffer.from(payload);
  const size = body.length < 126 ? 2 : body.length < 65_536 ? 4 : 10;
  const head = Buffer.alloc(size);
  head[0] = (isLast ? 0x80 : 0) | opcode;
  head[1] = size === 2 ? body.length : size === 4 ? 126 : 127;
  if (size === 4) head.writeUInt16BE(body.length, 2);
  if (size === 10) head.writeBigUInt64BE(BigInt(body.length), 2);
  return Buffer.concat([head, body]);
}

export const acceptOf = (head: string): string => {
  const key = /^sec-websocket-key: (.+)\r$/im.exec(`${head}\r`)?.[1] ?? "";
  return createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
};

/** Answers 101 and serves frames from then on. `head`: the request's head. */
export function serveWs(
  socket: Duplex,
  head: string,
  handle: WsHandler,
  lab: Pick<WsLab, "streams" | "heard" | "frames">,
): (chunk: Buffer) => void {
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${acceptOf(head)}\r\nSec-WebSocket-Protocol: mig.v1\r\n\r\n`,
  );
  const stream: WsOfAgent = {
    say: (message) => void socket.write(serverFrame(1, JSON.stringify(controllerMessageToJson(message)))),
    sayBytes: (bytes) => void socket.write(bytes),
    close: (code, reason = "") =>
      void socket.write(
        serverFrame(8, Buffer.concat([Buffer.from([code >> 8, code & 0xff]), Buffer.from(reason)])),
      ),
    pause: () => void socket.pause(),
    end: () => void socket.end(),
  };
  lab.streams.push(stream);
  let rest = Buffer.alloc(0);
  return (chunk) => {
    rest = Buffer.concat([rest, chunk]);
    for (;;) {
      const short = (rest[1] ?? 0) & 0x7f;
      const size = (short < 126 ? 2 : short === 126 ? 4 : 10) + 4;
      if (rest.length < size) return;
      const length =
        short < 126 ? short : short === 126 ? rest.readUInt16BE(2) : Number(rest.readBigUInt64BE(2));
      if (rest.length < size + length) return;
      const mask = rest.subarray(size - 4, size);
      const payload = Buffer.from(
        rest.subarray(size, size + length).map((byte, i) => byte ^ (mask[i & 3] ?? 0)),
      );
      const opcode = (rest[0] ?? 0) & 0xf;
      rest = rest.subarray(size + length);
      lab.frames.push({ opcode, payload });
      if (opcode === 8) socket.end(serverFrame(8, payload));
      if (opcode !== 1) continue;
      const body: unknown = JSON.parse(payload.toString());
      for (const one of Array.isArray(body) ? body : [body]) {
        const message = agentMessageFromJson(one, { vmId: "vm-1", nowMs: Date.now() });
        lab.heard.push(message);
        handle(message, stream);
      }
    }
  };
}

/** `answer`: what is said instead of 101; given the head of the request. */
export async function startWsLab(
  handle: WsHandler = friendlyWs,
  { port = 0, answer }: { port?: number; answer?: (head: string) => string | Buffer } = {},
): Promise<WsLab> {
  const sockets = new Set<Socket>();
  const lab: WsLab = {
    port: 0,
    endpoint: "",
    streams: [],
    heads: [],
    heard: [],
    frames: [],
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket)).on("error", () => {});
    let seen = Buffer.alloc(0);
    let take: ((chunk: Buffer) => void) | undefined;
    socket.on("data", (chunk) => {
      if (take !== undefined) return take(chunk);
      seen = Buffer.concat([seen, chunk]);
      const end = seen.indexOf("\r\n\r\n");
      if (end < 0) return;
      const head = seen.subarray(0, end).toString("latin1");
      lab.heads.push(head);
      if (answer !== undefined) return void socket.end(answer(head));
      take = serveWs(socket, head, handle, lab);
      take(seen.subarray(end + 4));
    });
  });
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  lab.port = (server.address() as AddressInfo).port;
  lab.endpoint = `http://127.0.0.1:${lab.port}`;
  return lab;
}
