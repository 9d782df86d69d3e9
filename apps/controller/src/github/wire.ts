import { MigError } from "@mig/lifecycle";
import { asObject, PRODUCT_VERSION, type Unknown } from "@mig/protocol";
import { request as octokitRequest } from "@octokit/request";
import { boundedFetch } from "./bounded-fetch.ts";
import { createEtagCache } from "./etag-cache.ts";
import { type GithubRefusal, refusalOf, saidAtMs } from "./refusal.ts";

/**
 * One GitHub: github.com, a GHE.com tenant or a GitHub Enterprise Server. Sends one request at a time for whoever
 * asks, and knows how far this machine's clock is from GitHub's. Decides nothing about pace or keys.
 */
export interface GithubWire {
  readonly apiUrl: string;
  /** `route` as in GitHub's documentation, "POST /orgs/{org}/actions/runners/registration-token". */
  send(route: string, parameters: Unknown, bearer: string): Promise<Unknown>;
  /** GitHub's clock minus ours, from the newest Date header; 0 before the first answer. */
  skewMs(): number;
}

export interface WireSettings {
  apiUrl: string;
  signal: AbortSignal;
  /** For one request with all that belongs to it. */
  timeoutMs?: number;
  /** Hears of every answer, good or bad: the pace depends on it. */
  onAnswer?(answer: GithubRefusal): void;
  nowMs?: () => number;
}

export function createGithubWire(settings: WireSettings): GithubWire {
  const { signal, timeoutMs = 15_000, onAnswer, nowMs = Date.now } = settings;
  const apiUrl = settings.apiUrl.replace(/\/+$/, "");
  let skewMs = 0;
  const known = createEtagCache();
  const request = octokitRequest.defaults({
    baseUrl: apiUrl,
    headers: {
      accept: "application/vnd.github+json",
      "user-agent": `mig-controller/${PRODUCT_VERSION}`,
      "x-github-api-version": "2022-11-28",
    },
    // GitHub announces the end of routes in a header; Octokit would print that on our standard error.
    request: { log: { debug() {}, info() {}, warn() {}, error() {} } },
  });
  const hear = (answer: GithubRefusal): void => {
    const atMs = saidAtMs(answer.headers);
    if (atMs !== undefined) skewMs = atMs - nowMs();
    onAnswer?.(answer);
  };

  return {
    apiUrl,
    skewMs: () => skewMs,
    async send(route, parameters, bearer) {
      const what = filled(route, parameters);
      const key = route.startsWith("GET ") ? `${what} ${JSON.stringify(parameters)}` : undefined;
      const before = key === undefined ? undefined : known.get(key);
      const limit = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
      try {
        const answer = await request(route, {
          ...parameters,
          headers: {
            authorization: `Bearer ${bearer}`,
            ...(before === undefined ? {} : { "if-none-match": before.etag }),
          },
          request: { signal: limit, fetch: boundedFetch },
        });
        hear({ status: answer.status, headers: answer.headers, data: undefined });
        if (answer.status === 204) return {};
        const data = asObject(answer.data);
        if (data !== undefined) {
          if (key !== undefined) known.set(key, answer.headers.etag, data);
          return data;
        }
        throw unavailable(`GitHub's answer to ${what} is not a JSON object`);
      } catch (error) {
        if (error instanceof MigError) throw error;
        const response = responseOf(error);
        if (response === undefined)
          throw unavailable(`GitHub did not answer ${what} (${reasonOf(error, limit)})`, error);
        hear(response);
        if (response.status === 304 && before !== undefined) return before.answer();
        throw refusalOf(what, response, nowMs() + skewMs);
      }
    },
  };
}

const unavailable = (message: string, cause?: unknown): MigError =>
  new MigError("github_unavailable", message, { cause: withoutRequest(cause) });

/** Octokit's errors carry the request with its headers; nothing of that may travel on with ours. */
function withoutRequest(cause: unknown): unknown {
  const inner = cause instanceof Error ? (cause.cause ?? cause) : undefined;
  return inner instanceof Error ? new Error(inner.message) : undefined;
}

function responseOf(error: unknown): GithubRefusal | undefined {
  if (!(error instanceof Error) || !("response" in error)) return undefined;
  const response = asObject(error.response);
  const headers = asObject(response?.["headers"]);
  const status = response?.["status"];
  if (typeof status !== "number" || headers === undefined) return undefined;
  return { status, headers: headers as GithubRefusal["headers"], data: response?.["data"] };
}

/** ENOTFOUND, ECONNREFUSED, TimeoutError …: what an operator can search for. */
function reasonOf(error: unknown, limit: AbortSignal): string {
  if (limit.aborted) return limit.reason instanceof Error ? limit.reason.name : "aborted";
  let inner: unknown = error;
  for (let depth = 0; depth < 5 && inner instanceof Error && inner.cause !== undefined; depth += 1)
    inner = inner.cause;
  if (!(inner instanceof Error)) return "no reason given";
  return "code" in inner && typeof inner.code === "string" ? inner.code : inner.message.slice(0, 120);
}

function filled(route: string, parameters: Unknown): string {
  return route.replace(/\{(\w+)\}/g, (_all, name: string) =>
    encodeURIComponent(String(parameters[name] ?? "")),
  );
}
