import { Agent, request } from "node:http";
import { Client, credentials } from "@grpc/grpc-js";
import type { ControllerMessage } from "@mig/protocol";
import { commandService } from "@mig/protocol/grpc";
import { decodeControllerMessage } from "@mig/protocol/proto";
import { WebSocket } from "ws";
import { connectMessage } from "./connect-message.ts";

export const channels = ["grpc", "websocket", "sse", "poll"] as const;
export type Channel = (typeof channels)[number];

export interface Arrival {
  id: string;
  atMs: number;
}

/** A VM's client that only notes when a command has come. */
export interface CommandClient {
  next(): Promise<Arrival>;
  close(): void;
}

const about = "incarnation=i-1&miglet_state=idle&pool_id=p&version=bench&protocol_version=1";

export async function openClient(channel: Channel, url: string, vmId: string): Promise<CommandClient> {
  if (channel === "poll") return openPoll(url, vmId);
  let waiting: ((arrival: Arrival) => void) | undefined;
  const arrive = (id: string): void => waiting?.({ id, atMs: performance.now() });
  const close =
    channel === "grpc"
      ? await openGrpc(url, vmId, arrive)
      : channel === "websocket"
        ? await openWs(url, vmId, arrive)
        : await openSse(url, vmId, arrive);
  return {
    next: () =>
      new Promise((resolve) => {
        waiting = resolve;
      }),
    close,
  };
}

function openGrpc(url: string, vmId: string, arrive: (id: string) => void): Promise<() => void> {
  const client = new Client(new URL(url).host, credentials.createInsecure());
  const { path, requestSerialize, responseDeserialize } = commandService.streamCommands;
  const call = client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize);
  call.on("error", () => {});
  call.write(connectMessage(vmId));
  return new Promise((resolve) => {
    call.on("data", (bytes: Uint8Array) => {
      const message: ControllerMessage | undefined = decodeControllerMessage(bytes, Date.now());
      if (message?.kind === "command") arrive(message.command.id);
      if (message?.kind === "connect_ack")
        resolve(() => {
          call.cancel();
          client.close();
        });
    });
  });
}

function openWs(url: string, vmId: string, arrive: (id: string) => void): Promise<() => void> {
  const socket = new WebSocket(`${url.replace(/^http/, "ws")}/api/v1/vms/${vmId}/commands/ws`, ["mig.v1"]);
  socket.on("open", () =>
    socket.send(
      JSON.stringify({
        ...{ kind: "connect", vm_id: vmId, pool_id: "p", version: "bench", protocol_version: 1 },
        ...{ incarnation: "i-1", miglet_state: "idle" },
      }),
    ),
  );
  return new Promise((resolve, reject) => {
    socket.on("error", reject);
    socket.on("message", (data: Buffer) => {
      const message = JSON.parse(data.toString()) as { kind: string; id?: string };
      if (message.kind === "command") arrive(message.id ?? "");
      if (message.kind === "connect_ack") resolve(() => socket.terminate());
    });
  });
}

function openSse(url: string, vmId: string, arrive: (id: string) => void): Promise<() => void> {
  return new Promise((resolve, reject) => {
    const call = request(`${url}/api/v1/vms/${vmId}/commands/stream?${about}`, { agent: false });
    call.on("error", reject);
    call.on("response", (response) => {
      let text = "";
      response.setEncoding("utf8").on("error", () => {});
      response.on("data", (chunk: string) => {
        text += chunk;
        const blocks = text.split("\n\n");
        text = blocks.pop() ?? "";
        for (const block of blocks) {
          if (/^event: command$/m.test(block)) arrive(/^id: (.*)$/m.exec(block)?.[1] ?? "");
          if (/^event: connect_ack$/m.test(block)) resolve(() => call.destroy());
        }
      });
    });
    call.end();
  });
}

function openPoll(url: string, vmId: string): CommandClient {
  const http = openPoster(url);
  return {
    async next() {
      for (;;) {
        const body = await http.get(`/api/v1/vms/${vmId}/commands?wait=20s&${about}`);
        const atMs = performance.now();
        const { commands } = JSON.parse(body) as { commands: { id: string }[] };
        const [command] = commands;
        if (command !== undefined) return { id: command.id, atMs };
      }
    },
    close: http.close,
  };
}

export interface Poster {
  get(path: string): Promise<string>;
  post(path: string, body: object): Promise<string>;
  close(): void;
}

/** Requests on one connection that stays open; rejects for an answer that is not a success. */
export function openPoster(url: string): Poster {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const send = (method: string, path: string, body?: object): Promise<string> =>
    new Promise((resolve, reject) => {
      const headers = body === undefined ? {} : { "content-type": "application/json" };
      const call = request(`${url}${path}`, { method, agent, headers }, (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (chunk: string) => {
          text += chunk;
        });
        response.on("error", reject);
        response.on("end", () =>
          (response.statusCode ?? 500) < 300 ? resolve(text) : reject(new Error(`${path}: ${text}`)),
        );
      });
      call.on("error", reject);
      call.end(body === undefined ? undefined : JSON.stringify(body));
    });
  return {
    get: (path) => send("GET", path),
    post: (path, body) => send("POST", path, body),
    close: () => agent.destroy(),
  };
}
