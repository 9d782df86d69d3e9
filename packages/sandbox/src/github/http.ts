import type { IncomingMessage } from "node:http";

export interface Call {
  readonly method: string;
  /** Without query and without `/api/v3`. */
  readonly path: string;
  /** `/api/v3` when the caller used it, as callers of a GitHub Enterprise Server do. */
  readonly prefix: string;
  readonly query: URLSearchParams;
  readonly authorization: string;
  readonly userAgent: string;
  readonly body: Readonly<Record<string, unknown>>;
  /** Base URL of the server as the caller sees it. */
  readonly baseUrl: string;
  /** Aborted when the caller is gone or the server closes. */
  readonly gone: AbortSignal;
}

export interface Reply {
  readonly status: number;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

export type Handler = (call: Call, ...parameters: string[]) => Reply | Promise<Reply>;
export type Route = readonly [method: string, path: RegExp, handler: Handler];

/** A request that GitHub refuses; becomes an error body in GitHub's shape (runner-contract §8.6). */
export class Refusal extends Error {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(
    status: number,
    message: string,
    details: Readonly<Record<string, unknown>> = {},
    headers: Readonly<Record<string, string>> = {},
  ) {
    super(message);
    this.status = status;
    this.details = details;
    this.headers = headers;
  }
}

const maxBodyBytes = 1_048_576;

export async function readBody(request: IncomingMessage): Promise<Readonly<Record<string, unknown>>> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxBodyBytes) throw new Refusal(413, "Request body is too large.");
    chunks.push(chunk);
  }
  if (bytes === 0) return {};
  try {
    const value: unknown = JSON.parse(Buffer.concat(chunks).toString("utf8"));
    if (isRecord(value)) return value;
  } catch {
    // Falls through to the refusal that GitHub gives for anything that is no JSON object.
  }
  throw new Refusal(400, "Problems parsing JSON");
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

/** Calls the first route that matches, or gives GitHub's 404. */
export function route(routes: readonly Route[], call: Call): Reply | Promise<Reply> {
  for (const [method, path, handler] of routes) {
    const match = method === call.method ? path.exec(call.path) : null;
    if (match) return handler(call, ...match.slice(1).map((part) => decodeURIComponent(part ?? "")));
  }
  throw new Refusal(404, "Not Found");
}
