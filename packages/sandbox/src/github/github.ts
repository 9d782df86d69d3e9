/** A stand-in for GitHub: the REST API that a control plane calls and the services that runners call, over real HTTP. */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { Access } from "./access.ts";
import { controlRoutes, createControl } from "./control-api.ts";
import { Faults } from "./faults.ts";
import { Fleet } from "./fleet.ts";
import { type Call, Refusal, type Reply, readBody, route } from "./http.ts";
import { restRoutes } from "./rest.ts";
import { errorBody } from "./rest-shapes.ts";
import { runnerRoutes } from "./runner-api.ts";
import type { Fault, Github, GithubOptions, RequestRecord } from "./types.ts";

const maxRequestRecords = 1_000;
const sweepMs = 50;
/** Installation tokens: 5,000 per hour; registration has a bucket of its own (runner-contract §8.5). */
const rateLimits = { core: 5_000, actions_runner_registration: 10_000 };

/** Starts a GitHub stand-in on the loopback interface. */
export async function startGithub(options: GithubOptions = {}): Promise<Github> {
  const access = new Access(options);
  const fleet = new Fleet(options);
  const faults = new Faults();
  const requests: RequestRecord[] = [];
  const used = { core: 0, actions_runner_registration: 0 };
  const closing = new AbortController();
  const resetSeconds = Math.floor(Date.now() / 1000) + 3_600;
  const control = createControl(fleet, faults, requests);
  const routes = [...restRoutes(access, fleet), ...runnerRoutes(access, fleet, options)];
  const ownRoutes = controlRoutes(control);

  const rateHeaders = (path: string): Record<string, string> => {
    const resource = /(-token|generate-jitconfig)$/.test(path) ? "actions_runner_registration" : "core";
    used[resource] += 1;
    return {
      "x-ratelimit-limit": String(rateLimits[resource]),
      "x-ratelimit-remaining": String(Math.max(0, rateLimits[resource] - used[resource])),
      "x-ratelimit-used": String(used[resource]),
      "x-ratelimit-reset": String(resetSeconds),
      "x-ratelimit-resource": resource,
    };
  };

  const answer = async (call: Call): Promise<Reply> => {
    try {
      if (call.path.startsWith("/_sandbox/")) return await route(ownRoutes, call);
      if (!call.userAgent) {
        throw new Refusal(
          403,
          "Request forbidden by administrative rules. Please make sure your request has a User-Agent header",
        );
      }
      return await route(routes, call);
    } catch (error) {
      return replyToError(error);
    }
  };

  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const url = new URL(request.url ?? "/", "http://stand-in");
    const path = url.pathname.replace(/^\/api\/v3(?=\/)/, "");
    const { method = "GET" } = request;
    const fault = path.startsWith("/_sandbox/") ? undefined : faults.take(method, path);
    const left = new AbortController();
    response.on("close", () => left.abort());
    const gone = AbortSignal.any([left.signal, closing.signal]);
    let reply: Reply | "cut";
    try {
      const body = await readBody(request);
      const call: Call = {
        method,
        path,
        query: url.searchParams,
        authorization: request.headers.authorization ?? "",
        userAgent: request.headers["user-agent"] ?? "",
        body,
        baseUrl: `http://${request.headers.host}`,
        gone,
      };
      reply = fault ? await answerFaulty(fault, call, answer) : await answer(call);
    } catch (error) {
      reply = replyToError(error);
    }
    const status = reply === "cut" ? 0 : reply.status;
    if (!path.startsWith("/_sandbox/")) {
      const authorization = (request.headers.authorization ?? "").split(" ")[0] ?? "";
      requests.push({ at: new Date().toISOString(), method, path: path + url.search, status, authorization });
      if (requests.length > maxRequestRecords) requests.shift();
    }
    if (reply === "cut") {
      request.socket.destroy();
      return;
    }
    const text =
      reply.body === undefined
        ? ""
        : typeof reply.body === "string"
          ? reply.body
          : JSON.stringify(reply.body);
    response.writeHead(reply.status, {
      "content-type": "application/json; charset=utf-8",
      "x-github-request-id": randomUUID(),
      ...rateHeaders(path),
      ...reply.headers,
    });
    response.end(text);
  };

  const server = createServer((request, response) => {
    serve(request, response).catch(() => request.socket.destroy());
  });
  server.keepAliveTimeout = 60_000;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port ?? 0, "127.0.0.1", resolve);
  });
  const { port } = server.address() as AddressInfo;
  const sweep = setInterval(() => fleet.sweep(), sweepMs).unref();
  const url = `http://127.0.0.1:${port}`;

  const close = async (): Promise<void> => {
    clearInterval(sweep);
    closing.abort();
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeAllConnections();
    await closed;
  };
  return {
    ...control,
    url,
    webUrl: url,
    port,
    appId: access.appId,
    close,
    [Symbol.asyncDispose]: close,
  };
}

async function answerFaulty(
  fault: Fault,
  call: Call,
  answer: (call: Call) => Promise<Reply>,
): Promise<Reply | "cut"> {
  if (fault.drop === "before") return "cut";
  if (fault.delayMs) await delay(fault.delayMs, undefined, { signal: call.gone }).catch(() => {});
  if (fault.hang) {
    if (!call.gone.aborted) await once(call.gone, "abort");
    return "cut";
  }
  if (fault.status !== undefined) {
    const { status, body = { message: "Fault of the stand-in" }, headers = {} } = fault;
    return { status, body, headers };
  }
  const reply = await answer(call);
  return fault.drop === "after" ? "cut" : reply;
}

function replyToError(error: unknown): Reply {
  if (error instanceof Refusal)
    return { status: error.status, body: errorBody(error), headers: error.headers };
  const message = error instanceof Error ? error.message : String(error);
  return { status: 500, body: { message: `The GitHub stand-in failed: ${message}` } };
}
