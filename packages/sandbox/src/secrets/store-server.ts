import {
  createServer as createHttp,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from "node:http";
import { createServer as createHttps } from "node:https";
import type { AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";

/** What goes wrong with the next requests. `times`: how many of them; without it, all until `mend()`. */
export type StoreFault =
  | { readonly kind: "slow"; readonly delayMs: number; readonly times?: number }
  /** Takes the request and never answers. */
  | { readonly kind: "hang"; readonly times?: number }
  /** Half an answer, then the connection is gone. */
  | { readonly kind: "cut"; readonly times?: number }
  /** Bytes that are no HTTP. */
  | { readonly kind: "garbage"; readonly times?: number }
  /** A proper answer whose body never ends. */
  | { readonly kind: "endless"; readonly times?: number }
  /** As a proxy in front of it would. `echo`: with the request's headers in the body. */
  | {
      readonly kind: "status";
      readonly status: number;
      readonly headers?: Readonly<Record<string, string>>;
      readonly body?: string;
      readonly echo?: boolean;
      readonly times?: number;
    };

export interface StoreRequestRecord {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly status: number | undefined;
}

export interface StoreServer {
  readonly url: string;
  /** The newest 10,000. */
  readonly requests: readonly StoreRequestRecord[];
  fail(fault: StoreFault): void;
  mend(): void;
  close(): Promise<void>;
}

export interface StoreReply {
  readonly status: number;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface StoreCall {
  readonly method: string;
  readonly url: URL;
  /** The path as it was sent. */
  readonly rawPath: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: Buffer;
}

export interface TlsFiles {
  readonly key: string;
  readonly cert: string;
}

const requestsMax = 10_000;
const bodyMax = 1024 * 1024;

/** A store's HTTP server on a free port of loopback, which can be made to fail as stores and networks do. */
export async function startStoreServer(
  answer: (call: StoreCall) => StoreReply | Promise<StoreReply>,
  tls?: TlsFiles,
): Promise<StoreServer> {
  const requests: StoreRequestRecord[] = [];
  const closing = new AbortController();
  let fault: StoreFault | undefined;
  let faultsLeft = 0;

  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { method = "GET", headers } = request;
    const rawPath = request.url ?? "/";
    const record = { method, path: rawPath, headers, status: undefined as number | undefined };
    requests.push(record);
    if (requests.length > requestsMax) requests.shift();
    const body = await readBody(request);
    const left = new AbortController();
    response.on("close", () => left.abort());
    const gone = AbortSignal.any([left.signal, closing.signal]);
    if (fault !== undefined && faultsLeft > 0) {
      faultsLeft -= 1;
      if (await misbehave(fault, request, response, gone)) return;
    }
    const reply = await answer({ method, url: new URL(rawPath, "http://store"), rawPath, headers, body });
    record.status = reply.status;
    const text = reply.body === undefined ? "" : JSON.stringify(reply.body);
    const length = { "content-type": "application/json", "content-length": String(Buffer.byteLength(text)) };
    response.writeHead(reply.status, { ...length, ...reply.headers }).end(text);
  };
  const listener = (request: IncomingMessage, response: ServerResponse): void => {
    serve(request, response).catch(() => response.destroy());
  };
  const server: Server = tls === undefined ? createHttp(listener) : createHttps(tls, listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `${tls === undefined ? "http" : "https"}://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    fail(next) {
      fault = next;
      faultsLeft = next.times ?? Number.POSITIVE_INFINITY;
    },
    mend() {
      fault = undefined;
    },
    async close() {
      closing.abort();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > bodyMax) throw new Error("too long");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** True when nothing is left to answer. */
async function misbehave(
  fault: StoreFault,
  request: IncomingMessage,
  response: ServerResponse,
  gone: AbortSignal,
): Promise<boolean> {
  switch (fault.kind) {
    case "slow":
      await delay(fault.delayMs, undefined, { signal: gone });
      return false;
    case "hang":
      return true;
    case "cut":
      response.writeHead(200, { "content-length": "1000" });
      response.write('{"half":', () => response.destroy());
      return true;
    case "garbage":
      response.socket?.end("\u0000\u00ff this is no HTTP at all \r\n\r\n");
      return true;
    case "endless": {
      response.writeHead(200, { "content-type": "application/json" });
      const chunk = "x".repeat(65_536);
      const more = (): void => {
        while (!gone.aborted && response.write(chunk));
      };
      response.on("drain", more);
      more();
      return true;
    }
    case "status": {
      const text =
        fault.echo === true
          ? JSON.stringify({
              errors: [JSON.stringify(request.headers)],
              message: JSON.stringify(request.headers),
            })
          : (fault.body ?? "");
      response
        .writeHead(fault.status, { "content-length": String(Buffer.byteLength(text)), ...fault.headers })
        .end(text);
      return true;
    }
  }
}
