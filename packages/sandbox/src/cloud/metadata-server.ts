import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";

/** What goes wrong with the next requests. `times`: how many of them; without it, all until `mend()`. */
export type MetadataFault =
  | { readonly kind: "slow"; readonly delayMs: number; readonly times?: number }
  /** Takes the request and never answers. */
  | { readonly kind: "hang"; readonly times?: number }
  /** Half an answer, then the connection is gone. */
  | { readonly kind: "cut"; readonly times?: number }
  /** Bytes that are no HTTP. */
  | { readonly kind: "garbage"; readonly times?: number }
  /** A proper answer whose body never ends. */
  | { readonly kind: "endless"; readonly times?: number }
  | { readonly kind: "status"; readonly status: number; readonly times?: number };

export interface MetadataRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

export interface MetadataServer {
  readonly url: string;
  /** The newest 1,000. */
  readonly requests: readonly MetadataRequest[];
  fail(fault: MetadataFault): void;
  mend(): void;
  close(): Promise<void>;
}

export interface MetadataReply {
  readonly status: number;
  readonly body?: string | Buffer;
  readonly headers?: Readonly<Record<string, string>>;
}

export type AnswerMetadata = (
  request: IncomingMessage,
  url: URL,
  gone: AbortSignal,
) => MetadataReply | Promise<MetadataReply>;

const requestsMax = 1_000;

/** The part that the stand-ins of all clouds share: a loopback server that can misbehave as networks do. */
export async function startMetadataServer(answer: AnswerMetadata): Promise<MetadataServer> {
  const requests: MetadataRequest[] = [];
  const closing = new AbortController();
  let fault: MetadataFault | undefined;
  let faultsLeft = 0;
  const takeFault = (): MetadataFault | undefined => {
    if (fault === undefined || faultsLeft <= 0) return undefined;
    faultsLeft -= 1;
    return fault;
  };

  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { method = "GET", headers } = request;
    const url = new URL(request.url ?? "/", "http://metadata");
    requests.push({ method, path: url.pathname + url.search, headers });
    if (requests.length > requestsMax) requests.shift();
    request.resume();
    const left = new AbortController();
    response.on("close", () => left.abort());
    const gone = AbortSignal.any([left.signal, closing.signal]);
    const wrong = takeFault();
    if (wrong !== undefined && (await misbehave(wrong, response, gone))) return;
    const reply = await answer(request, url, gone);
    const body = Buffer.from(reply.body ?? "");
    response.writeHead(reply.status, { "content-length": body.length, ...reply.headers }).end(body);
  };

  const server = createServer((request, response) => {
    serve(request, response).catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
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

/** True when nothing is left to answer. */
async function misbehave(
  fault: MetadataFault,
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
      response.writeHead(200, { "content-length": "1000", "metadata-flavor": "Google" });
      response.write("half an ans", () => response.destroy());
      return true;
    case "garbage":
      response.socket?.end("\u0000\u00ff this is no HTTP at all \r\n\r\n");
      return true;
    case "endless": {
      response.writeHead(200, { "metadata-flavor": "Google" });
      const chunk = "x".repeat(16_384);
      const more = (): void => {
        while (!gone.aborted && response.write(chunk));
      };
      response.on("drain", more);
      more();
      return true;
    }
    case "status":
      response.writeHead(fault.status, { "metadata-flavor": "Google", "content-length": "0" }).end();
      return true;
  }
}
