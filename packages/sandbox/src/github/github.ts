/** A stand-in for GitHub: the REST API that a control plane calls and the services that runners call, over real HTTP. */
import { createServer as createHttp, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createHttps } from "node:https";
import { Access } from "./access.ts";
import { GithubClock } from "./clock.ts";
import { controlRoutes, createControl } from "./control-api.ts";
import { Faults } from "./faults.ts";
import { Fleet } from "./fleet.ts";
import { Installs } from "./installs.ts";
import { Limits } from "./limits.ts";
import { ListeningPort } from "./listening-port.ts";
import { restRoutes } from "./rest.ts";
import { appRoutes } from "./rest-app.ts";
import { runnerRoutes } from "./runner-api.ts";
import { type Serving, serve } from "./serve.ts";
import { Traffic } from "./traffic.ts";
import type { Github, GithubOptions, RequestRecord } from "./types.ts";

const requestsMax = 20_000;
const sweepMs = 50;

/** Starts a GitHub stand-in on the loopback interface. */
export async function startGithub(options: GithubOptions = {}): Promise<Github> {
  const clock = new GithubClock(options.clockSkewMs);
  const installs = new Installs(options);
  const access = new Access(options, installs, clock);
  const limits = new Limits(options.limits, options.enterpriseVersion !== undefined, clock);
  const fleet = new Fleet(options);
  const faults = new Faults();
  const traffic = new Traffic(clock);
  const requests: RequestRecord[] = [];
  const closing = new AbortController();
  let port: ListeningPort;
  const control = createControl({ fleet, faults, installs, clock, traffic, requests, port: () => port });
  const serving: Serving = {
    options,
    access,
    installs,
    limits,
    traffic,
    faults,
    clock,
    routes: [
      ...appRoutes(access, installs, limits, clock),
      ...restRoutes(access, fleet, options.runnerGroups),
      ...runnerRoutes(access, fleet, options),
    ],
    ownRoutes: controlRoutes(control),
    closing: closing.signal,
    record(request) {
      requests.push(request);
      // In one go now and then: taking away the first of twenty thousand each time would cost more than the answer.
      if (requests.length > requestsMax + 1_000) requests.splice(0, requests.length - requestsMax);
    },
  };
  const listener = (request: IncomingMessage, response: ServerResponse): void => {
    serve(serving, request, response).catch(() => request.socket.destroy());
  };
  const server = options.tls === undefined ? createHttp(listener) : createHttps(options.tls, listener);
  server.keepAliveTimeout = 60_000;
  port = await ListeningPort.open(server, options.port);
  const sweep = setInterval(() => fleet.sweep(), sweepMs).unref();
  const url = `${options.tls === undefined ? "http" : "https"}://127.0.0.1:${port.number}`;

  const close = async (): Promise<void> => {
    clearInterval(sweep);
    closing.abort();
    await port.close();
  };
  return {
    ...control,
    url,
    webUrl: url,
    port: port.number,
    appId: access.appId,
    close,
    [Symbol.asyncDispose]: close,
  };
}
