import { waitFor } from "@mig/kit";
import type { JsonObject } from "@mig/protocol";
import { WebSocket } from "ws";

export interface DialledWs extends AsyncDisposable {
  readonly heard: JsonObject[];
  readonly socket: WebSocket;
  /** The close code, once it has ended; 1006 when the connection just broke. */
  readonly ended: Promise<number>;
  say(message: unknown): void;
  connect(vmId: string, more?: JsonObject): void;
  /** The next message for which this holds and that was not returned yet. */
  next(kind: string): Promise<JsonObject>;
}

/** A WebSocket client with nothing of an agent in it. `isSeed`: without our subprotocol, as seed 003 dials. */
export async function dialWs(
  url: string,
  {
    isSeed = false,
    headers = {},
    ca,
  }: { isSeed?: boolean; headers?: Record<string, string>; ca?: string } = {},
): Promise<DialledWs> {
  const socket = new WebSocket(url.replace(/^http/, "ws"), isSeed ? [] : ["mig.v1"], {
    headers,
    ...(ca === undefined ? {} : { ca }),
  });
  const heard: JsonObject[] = [];
  const returned = new Set<JsonObject>();
  socket.on("message", (data: Buffer) => void heard.push(JSON.parse(data.toString()) as JsonObject));
  const ended = new Promise<number>((resolve) => socket.on("close", resolve));
  await new Promise<void>((resolve, reject) => {
    socket.once("open", resolve);
    socket.once("error", reject);
  });
  socket.on("error", () => {}); // the close code tells
  const say = (message: unknown): void =>
    socket.send(typeof message === "string" ? message : JSON.stringify(message));
  return {
    heard,
    socket,
    ended,
    say,
    connect: (vmId, more = {}) =>
      say({ kind: "connect", vm_id: vmId, pool_id: "p", version: "test", protocol_version: 1, ...more }),
    async next(kind) {
      const found = await waitFor(`a ${kind}; heard ${JSON.stringify(heard).slice(0, 500)}`, () =>
        heard.find((one) => one["kind"] === kind && !returned.has(one)),
      );
      returned.add(found);
      return found;
    },
    async [Symbol.asyncDispose]() {
      socket.terminate();
      await ended;
    },
  };
}
