import { createServer, type IncomingMessage, type RequestListener } from "node:http";
import type { Socket } from "node:net";
import swagger from "@fastify/swagger";
import { type Log, pause, uuid7 } from "@mig/kit";
import { limits, PRODUCT_VERSION } from "@mig/protocol";
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import type { DiagnosticsDesk } from "../../diagnostics/diagnostics-desk.ts";
import type { Feed } from "../../feed/feed.ts";
import type { FleetParts } from "../../fleet/parts.ts";
import type { DirectoryDesk } from "../../github/directory-desk.ts";
import type { RunnerInventory } from "../../runner/inventory-list.ts";
import type { Desk } from "../../session/desk.ts";
import type { Access } from "../access.ts";
import { actionOf, type Gate } from "../auth.ts";
import { renderError } from "../error.ts";
import type { FeedLimits } from "../feed/slots.ts";
import type { Health } from "../health.ts";
import type { NatsOffers } from "../nats/vm-credentials.ts";
import type { SampleFiles } from "../sample-files.ts";
import { isWebSocket, type WsEdge } from "../ws/ws-edge.ts";
import { apiKeys } from "./api/v1/api-keys.ts";
import { audit } from "./api/v1/audit.ts";
import { commandLog } from "./api/v1/commands.ts";
import { feed } from "./api/v1/feed.ts";
import { fleetCommands } from "./api/v1/fleet/commands.ts";
import { githubApps } from "./api/v1/github-apps.ts";
import { join } from "./api/v1/join.ts";
import { joinTokens } from "./api/v1/join-tokens.ts";
import { orgs } from "./api/v1/orgs.ts";
import { pools } from "./api/v1/pools.ts";
import { records } from "./api/v1/records.ts";
import { runners } from "./api/v1/runners.ts";
import { commandStream } from "./api/v1/vms/command-stream.ts";
import { commands } from "./api/v1/vms/commands.ts";
import { vmDiagnostics } from "./api/v1/vms/diagnostics.ts";
import { events } from "./api/v1/vms/events.ts";
import { heartbeat } from "./api/v1/vms/heartbeat.ts";
import { nats } from "./api/v1/vms/nats.ts";
import { registrationToken } from "./api/v1/vms/registration-token.ts";
import { runnerRelease } from "./api/v1/vms/runner-release.ts";
import { vms } from "./api/v1/vms.ts";
import { describeApi } from "./describe-api.ts";
import { summaries } from "./docs/summaries.ts";
import { commonHeaders, isSecure, secureHeaders } from "./headers.ts";
import { health } from "./health.ts";
import { answerBrokenRequest, messageOfSchemaErrors, refuseOddRequest } from "./odd-requests.ts";
import type { FromSchemas } from "./routes.ts";
import { answerUnknownPaths } from "./unknown-paths.ts";

/** The desk, with what operators may ask about GitHub Apps, organizations and pools; sample mode has none of these. */
export interface HttpDesk extends Desk {
  readonly directory?: DirectoryDesk;
  readonly inventory?: RunnerInventory;
  readonly access?: Access;
  readonly fleet?: FleetParts;
  readonly feed?: { readonly feed: Feed; readonly limits: FeedLimits };
  readonly diagnostics?: DiagnosticsDesk;
}

/** What a route may touch. */
export interface HttpParts {
  readonly desk: HttpDesk;
  readonly gate: Gate;
  readonly health: Health;
  readonly log: Log;
  /** In sample mode only. */
  readonly files: SampleFiles | undefined;
  /** Ends held requests when the controller stops. */
  readonly signal: AbortSignal;
  readonly headersTimeoutMs: number;
  /** How often a stream that has nothing to say shows that it is alive. */
  readonly pingMs: number;
  /** Takes over the requests that become WebSockets. */
  readonly ws: WsEdge;
  /** Undefined where there is no NATS. */
  readonly offers: NatsOffers | undefined;
}

/** A whole request may take so many times as long as its head: it may bring a megabyte over a bad line. */
const bodyPatience = 3;
/** Longer than any held request: a peer that takes nothing of its answer in it is gone or means harm. */
const unreadMs = 60_000;
/**
 * Requests that one connection may have waiting for their answers. Node bounds what is queued in bytes only once the
 * peer is found not to read: 20 connections with 20,000 requests each made 1.4 GB of answers and stopped the event loop
 * for 8 s (measured).
 */
const pipelinedMax = 16;

export interface HttpApp {
  take(socket: Socket): void;
  /** Finishes what is under way; cuts what is not done after `graceMs`. */
  close(graceMs: number): Promise<void>;
}

/** Sample mode is for trying things with `curl -d`, which says that JSON is a form, and without a body at all. */
function readAnythingAsJson(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser("error", "error");
  app.addContentTypeParser("*", { parseAs: "string" }, (request, body, done) =>
    body === "" ? done(null, {}) : parse(request, body.toString(), done),
  );
  app.addHook("preValidation", async (request) => {
    if (request.method === "POST" && request.body === undefined) request.body = {};
  });
}

/** A DELETE whose client says of each request that it is JSON has no body all the same; where one is needed, its schema says so. */
function takeNothingForNoBody(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser("error", "error");
  app.removeContentTypeParser("application/json");
  app.addContentTypeParser("application/json", { parseAs: "string" }, (request, body, done) =>
    body === "" ? done(null, undefined) : parse(request, body.toString(), done),
  );
}

/** The HTTP API (DESIGN §8). A route decodes, authenticates, calls the desk and encodes; it decides nothing. */
export async function createHttpApp(parts: HttpParts): Promise<HttpApp> {
  const { log } = parts;
  const sockets = new Set<Socket>();
  let isClosing = false;
  const app = fastify({
    bodyLimit: limits.messageBytesMax,
    genReqId: () => uuid7(),
    // "//api/…" is what an endpoint with a trailing slash makes of a path (reference/go-agent-wire.md §2).
    rewriteUrl: (request) => (request.url ?? "/").replace(/^\/{2,}/, "/"),
    // HEAD on GET …/commands would take a command and show it to nobody.
    exposeHeadRoutes: false,
    // Longer than any request head: an id that is too long is told so by its schema, not by "not found".
    routerOptions: { maxParamLength: 32 * 1024 },
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false, useDefaults: false } },
    schemaErrorFormatter: (errors, where) => new Error(messageOfSchemaErrors(errors, where)),
    frameworkErrors: (error, request, reply) => void answerError(error, request, reply),
    forceCloseConnections: false,
    return503OnClosing: false,
    serverFactory: (handler) =>
      createServer(
        {
          headersTimeout: parts.headersTimeoutMs,
          requestTimeout: parts.headersTimeoutMs * bodyPatience,
          // Told in our own words, like everything else that is odd.
          requireHostHeader: false,
          connectionsCheckingInterval: Math.min(1_000, parts.headersTimeoutMs),
          keepAliveTimeout: 65_000,
          // `Upgrade: h2c`, which curl sends along, is answered as the plain request that it also is.
          shouldUpgradeCallback: isWebSocket,
        },
        boundPipelining(handler),
      ),
    clientErrorHandler: answerBrokenRequest,
  });

  function answerError(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
    const { status, retryAfterMs, body } = renderError(error, request.id);
    const fields = { request_id: request.id, method: request.method, url: request.url.slice(0, 200), status };
    if (status === 500) log.error({ ...fields, error }, "a request failed");
    else log.debug({ ...fields, code: body.error.code, reason: body.error.message }, "a request was refused");
    if (retryAfterMs !== undefined)
      void reply.header("retry-after", Math.max(1, Math.ceil(retryAfterMs / 1000)));
    if (status === 401) void reply.header("www-authenticate", 'Bearer realm="mig"');
    if (isSecure(request.raw.socket)) void reply.headers(secureHeaders);
    return reply.status(status).headers(commonHeaders(request.id)).send(body);
  }

  // Answers are made by us and declared for OpenAPI; JSON.stringify keeps the keys that are not declared.
  app.setSerializerCompiler(() => (answer) => JSON.stringify(answer));
  app.removeContentTypeParser("text/plain");
  takeNothingForNoBody(app);
  if (parts.files !== undefined) readAnythingAsJson(app);
  app.setErrorHandler(answerError);
  app.addHook("onRequest", async (request, reply) => {
    void reply.headers(commonHeaders(request.id));
    if (isSecure(request.raw.socket)) void reply.headers(secureHeaders);
    if (isClosing) void reply.header("connection", "close");
    refuseOddRequest(request);
  });

  // The rest of a body that nobody wanted, up to the last of its hundred megabytes, is not worth reading.
  app.addHook("onSend", async (request, reply) => {
    if (!request.raw.complete) void reply.header("connection", "close");
  });

  await app.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: { title: "MIG Controller", version: PRODUCT_VERSION },
      components: { securitySchemes: { bearer: { type: "http", scheme: "bearer" } } },
    },
  });
  app.addHook("onRoute", (route) => {
    const action = actionOf(route.onRequest);
    const summary = summaries[`${[route.method].flat()[0]} ${route.url.replaceAll(/:(\w+)/g, "{$1}")}`];
    // Several routes may share one schema: each gets a copy.
    route.schema = Object.assign(
      {},
      route.schema,
      summary === undefined ? {} : { summary },
      action === undefined ? {} : { "x-mig-action": action, security: [{ bearer: [] }] },
    );
  });
  const routes = app.withTypeProvider<FromSchemas>();
  answerUnknownPaths(app);
  health(routes, parts);
  events(routes, parts);
  heartbeat(routes, parts);
  registrationToken(routes, parts);
  runnerRelease(routes, parts);
  commands(routes, parts);
  commandStream(routes, parts);
  nats(routes, parts);
  vmDiagnostics(routes, parts);
  vms(routes, parts);
  githubApps(routes, parts);
  orgs(routes, parts);
  pools(routes, parts);
  runners(routes, parts);
  join(routes, parts);
  apiKeys(routes, parts);
  joinTokens(routes, parts);
  audit(routes, parts);
  records(routes, parts);
  commandLog(routes, parts);
  fleetCommands(routes, parts);
  feed(routes, parts);
  describeApi(app, routes);
  await app.ready();
  app.server.setTimeout(unreadMs);
  app.server.on("upgrade", (request: IncomingMessage, socket: Socket, head: Buffer) =>
    parts.ws.route(request, socket, head, (raw, response) => app.routing(raw, response)),
  );

  // The door listens in this server's stead. `listening` is what makes Node watch over slow heads and bodies.
  app.server.emit("listening");
  return {
    take(socket) {
      sockets.add(socket);
      socket.once("close", () => sockets.delete(socket));
      app.server.emit("connection", socket);
    },
    async close(graceMs) {
      isClosing = true;
      const untilMs = performance.now() + graceMs;
      app.server.closeIdleConnections();
      while (sockets.size > 0 && performance.now() < untilMs) {
        await pause(20);
        app.server.closeIdleConnections();
      }
      for (const socket of sockets) socket.destroy();
      await app.close();
    },
  };
}

/** A connection that asks for more than it may is cut: nobody honest pipelines so deep. */
function boundPipelining(handler: RequestListener): RequestListener {
  const waiting = new WeakMap<Socket, number>();
  return (request, response) => {
    const { socket } = request;
    const count = (waiting.get(socket) ?? 0) + 1;
    if (count > pipelinedMax) {
      socket.destroy();
      return;
    }
    waiting.set(socket, count);
    response.once("close", () => waiting.set(socket, (waiting.get(socket) ?? 1) - 1));
    handler(request, response);
  };
}
