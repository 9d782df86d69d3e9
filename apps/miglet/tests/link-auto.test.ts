import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { silentLog, waitFor } from "@mig/kit";
import type { MigError } from "@mig/lifecycle";
import { afterEach, expect, test } from "vitest";
import { type ChosenLink, createChosenLink, type LinkTiming } from "../src/link/choose-link.ts";
import type { LinkUp } from "../src/link/link.ts";
import { friendly, httpCalls, quick, speaker, startGrpcLab } from "./link-lab.ts";
import { friendlyWs, serveWs } from "./link-ws-lab.ts";

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

/** A controller's HTTP port that serves those channels that are let through, and what is open on it now. */
interface Door {
  endpoint: string;
  lets: { websocket: boolean; sse: boolean };
  /** Says nothing to a WebSocket, as a proxy that swallows what it does not know. */
  swallows: boolean;
  open: { websocket: Set<Duplex>; sse: Set<ServerResponse>; poll: Set<ServerResponse> };
  cut(channel: "websocket" | "sse"): void;
}

async function openDoor(): Promise<Door> {
  const door: Door = {
    endpoint: "",
    lets: { websocket: false, sse: false },
    swallows: false,
    open: { websocket: new Set(), sse: new Set(), poll: new Set() },
    cut(channel) {
      for (const one of door.open[channel]) one.destroy();
    },
  };
  const upgraded: Duplex[] = [];
  const hold = <T extends Duplex | ServerResponse>(set: Set<T>, one: T): void => {
    set.add(one);
    one.on("close", () => set.delete(one));
  };
  const server = createServer((request, response) => {
    const path = request.url ?? "";
    const json = (status: number, body: object): void =>
      void response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    if (path.includes("/commands/stream")) {
      if (!door.lets.sse) return json(404, {});
      hold(door.open.sse, response);
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write('event: connect_ack\ndata: {"accepted":true,"protocol_version":1}\n\n');
      return;
    }
    request.resume();
    if (request.method === "POST") return json(200, { next_interval_ms: 5_000 });
    hold(door.open.poll, response);
    const wait = /wait=0&/.test(path) ? 0 : 100;
    setTimeout(() => json(200, { commands: [] }), wait);
  });
  server.on("upgrade", (request: IncomingMessage, socket: Duplex, first: Buffer) => {
    socket.on("error", () => {});
    upgraded.push(socket);
    if (door.swallows) return;
    if (!door.lets.websocket) return void socket.end("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    hold(door.open.websocket, socket);
    const head = `GET\r\nSec-WebSocket-Key: ${request.headers["sec-websocket-key"]}`;
    const take = serveWs(socket, head, friendlyWs, { streams: [], heard: [], frames: [] });
    take(first);
    socket.on("data", take).on("end", () => socket.end());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  door.endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  closers.push(
    () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of upgraded) socket.destroy();
        server.closeAllConnections();
      }),
  );
  return door;
}

function choose(
  door: Door,
  grpcEndpoint: string | undefined,
  timing: Partial<LinkTiming> = {},
): { link: ChosenLink; ups: LinkUp[]; downs: MigError[] } {
  const ups: LinkUp[] = [];
  const downs: MigError[] = [];
  const http = httpCalls(door.endpoint);
  const link = createChosenLink(
    {
      channel: "auto",
      speaker,
      http,
      httpEndpoint: door.endpoint,
      grpcEndpoint,
      log: silentLog,
      timing: { ...quick, ...timing },
    },
    {
      onUp: (up) => void ups.push(up),
      onDown: (reason) => void downs.push(reason),
      onCommand: () => {},
      onGoAway: () => {},
      onRefused: () => {},
    },
  );
  link.open();
  closers.push(async () => {
    await link.close();
    http.close();
  });
  return { link, ups, downs };
}

test("auto climbs from polling over events and WebSocket to gRPC, and falls back the same way", async () => {
  const door = await openDoor();
  const grpc = await startGrpcLab(friendly);
  await grpc.close();
  const { link, ups, downs } = choose(door, grpc.endpoint);
  await waitFor("polling", () => link.channel() === "poll");
  door.lets.sse = true;
  await waitFor("events", () => link.channel() === "sse");
  door.lets.websocket = true;
  await waitFor("WebSocket", () => link.channel() === "websocket");
  await waitFor("the end of the event stream", () => door.open.sse.size === 0);
  const again = await startGrpcLab(friendly, grpc.port);
  await waitFor("gRPC", () => link.channel() === "grpc");
  await waitFor("the end of the WebSocket", () => door.open.websocket.size === 0);
  expect(ups.map(({ channel }) => channel)).toEqual(["poll", "sse", "websocket", "grpc"]);
  expect(downs).toEqual([]);

  const startedMs = performance.now();
  await again.close();
  await waitFor("WebSocket", () => link.channel() === "websocket");
  door.lets.websocket = false;
  door.cut("websocket");
  await waitFor("events", () => link.channel() === "sse");
  door.lets.sse = false;
  door.cut("sse");
  await waitFor("polling", () => link.channel() === "poll");
  expect(performance.now() - startedMs).toBeLessThan(3_000);
  expect(downs).toHaveLength(3);
  expect(door.open.sse.size + door.open.websocket.size).toBe(0);
});

test("a channel that says nothing costs the fallback time, not the whole of the connect time", async () => {
  const door = await openDoor();
  door.swallows = true;
  door.lets.sse = true;
  const startedMs = performance.now();
  const { link } = choose(door, undefined, { connectMs: 5_000, fallbackMs: 200, retryUpMs: 10_000 });
  await waitFor("events", () => link.channel() === "sse");
  expect(performance.now() - startedMs).toBeLessThan(2_000);
});
