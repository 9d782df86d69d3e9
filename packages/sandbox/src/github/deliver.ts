/** How an answer leaves the stand-in: whole and at once, or as a fault wants it. */
import { once } from "node:events";
import type { ServerResponse } from "node:http";
import { PassThrough, Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setTimeout as delay } from "node:timers/promises";
import { createGzip } from "node:zlib";
import type { Delivery } from "./fault-types.ts";

const hugeBytes = 100 * 1024 * 1024;
const chunk = Buffer.alloc(65_536, "a");

export interface Outgoing {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

export async function deliver(
  response: ServerResponse,
  { status, headers, body }: Outgoing,
  how: Delivery | undefined,
  gone: AbortSignal,
): Promise<void> {
  const bytes = Buffer.from(body);
  const half = bytes.subarray(0, Math.floor(bytes.length / 2));
  const length = { "content-length": String(bytes.length) };
  switch (how) {
    case undefined:
      response.writeHead(status, status === 204 || status === 304 ? headers : { ...headers, ...length });
      response.end(status === 204 || status === 304 ? undefined : bytes);
      return;
    case "stall":
      response.writeHead(status, { ...headers, ...length }).flushHeaders();
      await untilGone(gone);
      return;
    case "trickle":
      response.writeHead(status, { ...headers, ...length });
      for (const byte of bytes) {
        response.write(Uint8Array.of(byte));
        await delay(1_000, undefined, { signal: gone }).catch(() => {});
        if (gone.aborted) return;
      }
      response.end();
      return;
    case "reset":
      response.writeHead(status, { ...headers, ...length });
      await new Promise<void>((resolve) => response.write(half, () => resolve()));
      response.socket?.resetAndDestroy();
      return;
    case "truncated":
      response.writeHead(status, { ...headers, "content-length": String(half.length) }).end(half);
      return;
    case "huge":
    case "bomb": {
      const isPacked = how === "bomb";
      response.writeHead(status, { ...headers, ...(isPacked ? { "content-encoding": "gzip" } : {}) });
      // A caller that has seen enough goes away; that is no failure of ours.
      await pipeline(Readable.from(hugeJson()), isPacked ? createGzip() : new PassThrough(), response, {
        signal: gone,
      }).catch(() => {});
      return;
    }
  }
}

function* hugeJson(): Generator<Buffer> {
  yield Buffer.from('{"token":"');
  for (let bytes = 0; bytes < hugeBytes; bytes += chunk.length) yield chunk;
  yield Buffer.from('"}');
}

export async function untilGone(gone: AbortSignal): Promise<void> {
  if (!gone.aborted) await once(gone, "abort");
}
