/** One request of the stand-in from its first byte to the last: fault, limits, route, answer, record. */
import { createHash, randomUUID } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Access } from "./access.ts";
import { type Answering, answer, answerOrFail, fill, replyToError } from "./answer.ts";
import type { GithubClock } from "./clock.ts";
import { deliver } from "./deliver.ts";
import type { Faults } from "./faults.ts";
import { type Call, type Reply, type Route, readBody, route } from "./http.ts";
import type { Counted, Limits } from "./limits.ts";
import type { Traffic } from "./traffic.ts";
import type { RequestRecord } from "./types.ts";

const json = "application/json; charset=utf-8";

export interface Serving extends Answering {
  readonly access: Access;
  readonly limits: Limits;
  readonly traffic: Traffic;
  readonly faults: Faults;
  readonly clock: GithubClock;
  readonly ownRoutes: readonly Route[];
  readonly closing: AbortSignal;
  record(request: RequestRecord): void;
}

export async function serve(
  serving: Serving,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { access, traffic, clock, closing } = serving;
  const url = new URL(request.url ?? "/", "http://stand-in");
  const prefix = url.pathname.startsWith("/api/v3/") ? "/api/v3" : "";
  const path = url.pathname.slice(prefix.length);
  const { method = "GET" } = request;
  const { authorization = "", host = "" } = request.headers;
  const left = new AbortController();
  response.on("close", () => {
    if (!response.writableFinished) left.abort();
  });
  const gone = AbortSignal.any([left.signal, closing]);
  const call = async (): Promise<Call> => ({
    method,
    path,
    prefix,
    query: url.searchParams,
    authorization,
    userAgent: request.headers["user-agent"] ?? "",
    body: await readBody(request),
    baseUrl: `${serving.options.tls === undefined ? "http" : "https"}://${host}`,
    gone,
  });
  if (path.startsWith("/_sandbox/")) {
    const reply = await answer(async () => route(serving.ownRoutes, await call()));
    const body = reply.body === undefined ? "" : JSON.stringify(reply.body);
    const outgoing = { status: reply.status, headers: { "content-type": json }, body };
    return deliver(response, outgoing, undefined, gone);
  }

  const actor = access.actorOf(authorization);
  const requestId = randomUUID();
  if (actor !== undefined) traffic.enter(method, path);
  const fault = serving.faults.take(method, path);
  if (fault?.clockSkewMs !== undefined) clock.skewMs = fault.clockSkewMs;
  let counted: Counted | undefined;
  // Runners speak for themselves, with tokens of their own; and asking for the limits is free.
  const isCounted = !/^\/(?:(?:broker|run|actions)\/|rate_limit$)/.test(path);
  const limited = (): Reply | undefined => {
    if (isCounted) counted = serving.limits.count(actor ?? "anonymous", { method, path }, requestId);
    return counted?.refusal;
  };
  let reply: Reply | "cut";
  try {
    const waitMs = isCounted ? (serving.options.latencyMs ?? 0) : 0;
    reply = await answerOrFail(serving, { fault, call: await asCall(call), limited, waitMs, gone });
  } catch (error) {
    reply = replyToError(error);
  }
  const target = prefix + path + url.search;
  const port = host.split(":").at(-1) ?? "";
  const status = reply === "cut" ? 0 : reply.status;
  const own = reply === "cut" ? {} : fill(reply.headers ?? {}, { clock, target, port });
  const headers: Record<string, string> = {
    "content-type": json,
    date: clock.httpDate(),
    "x-github-request-id": requestId,
    "x-github-media-type": "github.v3; format=json",
    ...(serving.options.enterpriseVersion === undefined
      ? {}
      : { "x-github-enterprise-version": serving.options.enterpriseVersion }),
    ...counted?.headers,
    ...own,
  };
  serving.record({
    at: new Date().toISOString(),
    method,
    path: path + url.search,
    status,
    authorization: authorization.split(" ")[0] ?? "",
    host,
    ...(actor === undefined ? {} : { actor }),
  });
  try {
    if (reply === "cut") request.socket.destroy();
    else {
      const body = bodyText(reply.body);
      if (actor !== undefined && method === "GET" && status === 200 && !fault) headers["etag"] = etagOf(body);
      if (headers["etag"] !== undefined && request.headers["if-none-match"] === headers["etag"]) {
        serving.limits.giveBack(actor ?? "anonymous");
        await deliver(response, { status: 304, headers, body: "" }, undefined, gone);
      } else await deliver(response, { status, headers, body }, fault?.deliver, gone);
    }
  } finally {
    counted?.done();
    if (actor !== undefined) traffic.leave(status, headers);
  }
}

/** A body that cannot be read is refused, and a fault may still come before that. */
async function asCall(read: () => Promise<Call>): Promise<Call | Reply> {
  try {
    return await read();
  } catch (error) {
    return replyToError(error);
  }
}

function bodyText(body: unknown): string {
  return body === undefined ? "" : typeof body === "string" ? body : JSON.stringify(body);
}

function etagOf(body: string): string {
  return `W/"${createHash("sha256").update(body).digest("hex")}"`;
}
