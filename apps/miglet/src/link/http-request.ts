import { Agent as HttpAgent, request as requestHttp } from "node:http";
import { Agent as HttpsAgent, request as requestHttps } from "node:https";
import { type Clock, systemClock } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import type { ControllerClock } from "./controller-clock.ts";
import { parseEndpoint } from "./endpoint.ts";
import { explainFailure } from "./explain-failure.ts";
import { errorOf, type HttpAnswer, parseBody, readAnswer } from "./http-answer.ts";
import { type TlsSource, tlsRules } from "./tls-material.ts";

export interface HttpClientSettings {
  endpoint: string;
  bearer?: (() => Promise<string | undefined>) | undefined;
  tls?: TlsSource | undefined;
  /** Learns the server's time from the header Date. */
  controllerClock?: ControllerClock | undefined;
  clock?: Clock | undefined;
}

export interface HttpCall {
  method: "GET" | "POST" | "PUT";
  /** Below the endpoint, with a leading slash; already escaped. */
  path: string;
  body?: unknown;
  /** Sent as it is, in place of a JSON body. */
  content?: { readonly bytes: Buffer; readonly type: string; readonly digest: string };
  /** From connecting to the last byte, redirects included. */
  timeoutMs: number;
  signal?: AbortSignal | undefined;
}

export interface HttpClient {
  /** The JSON of a 2xx answer. Anything else is a MigError with the server's own hint when it gave one. */
  call(call: HttpCall): Promise<unknown>;
  close(): void;
}

const redirectsMax = 3;
/** Shorter than what common balancers and proxies grant an idle connection. */
const idleMs = 50_000;

/**
 * HTTP on node:http alone, because fetch costs 13 MB on the VM (agent-runtime.md). One kept-alive connection at a
 * time beside the held poll; answers are bounded; redirects are followed only within the same host and scheme, so that
 * nobody can lead the token to another host or into the clear.
 */
export function createHttpClient(settings: HttpClientSettings): HttpClient {
  const { bearer, tls, controllerClock, clock = systemClock } = settings;
  const base = parseEndpoint(settings.endpoint);
  const isTls = base.protocol === "https:";
  const options = { keepAlive: true, maxSockets: 4, maxFreeSockets: 2, timeout: idleMs };
  // No session is resumed: that would skip the check of a certificate whose authority may have been withdrawn.
  const agent = isTls ? new HttpsAgent({ ...options, maxCachedSessions: 0 }) : new HttpAgent(options);

  const exchange = async (call: HttpCall, url: URL, leftMs: number): Promise<HttpAnswer> => {
    const token = await bearer?.();
    const material = isTls ? { ...(await tls?.()), ...tlsRules } : {};
    const { signal, content } = call;
    const payload =
      content?.bytes ?? (call.body === undefined ? undefined : Buffer.from(JSON.stringify(call.body)));
    return new Promise<HttpAnswer>((resolve, reject) => {
      let hasBegun = false;
      let wasKept = false;
      const sentAtMs = clock.monotonicMs();
      const request = (isTls ? requestHttps : requestHttp)(url, {
        method: call.method,
        agent,
        // Part of the name under which the agent keeps a connection: new material means a new connection.
        ...material,
        headers: {
          accept: "application/json",
          ...(payload === undefined
            ? {}
            : { "content-type": content?.type ?? "application/json", "content-length": payload.length }),
          ...(content === undefined ? {} : { "content-digest": content.digest }),
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        },
      });
      const giveUp = (why: string): void => {
        fail(new MigError("controller_unreachable", `The request to ${url.host} failed: ${why}.`));
        request.destroy();
      };
      const abort = (): void => giveUp("was given up");
      const cancel = clock.after(leftMs, () => giveUp(`it was not answered within ${call.timeoutMs} ms`));
      const settle = (): void => {
        cancel();
        signal?.removeEventListener("abort", abort);
      };
      const fail = (error: unknown): void => {
        settle();
        reject(wasKept ? new KeptConnectionLost(error) : error);
      };
      signal?.addEventListener("abort", abort, { once: true });
      if (signal?.aborted === true) abort();
      request.on("error", (error: NodeJS.ErrnoException) => {
        wasKept = !hasBegun && request.reusedSocket && /^(?:ECONNRESET|EPIPE)$/.test(error.code ?? "");
        fail(error);
      });
      request.on("response", (message) => {
        hasBegun = true;
        readAnswer(message).then((answer) => {
          controllerClock?.note(sentAtMs, Date.parse(answer.headers.date ?? ""), 1000);
          settle();
          resolve(answer);
        }, fail);
      });
      request.end(payload);
    });
  };

  const call = async (call: HttpCall): Promise<unknown> => {
    const startedMs = clock.monotonicMs();
    let url = new URL(base.pathname.replace(/\/+$/, "") + call.path, base);
    let hasBegunAgain = false;
    for (let redirects = 0; ; ) {
      const leftMs = Math.max(1, call.timeoutMs - (clock.monotonicMs() - startedMs));
      let answer: HttpAnswer;
      try {
        answer = await exchange(call, url, leftMs);
      } catch (error) {
        // The server closed a connection that it had kept while we used it again: nothing has been said yet.
        if (error instanceof KeptConnectionLost && !hasBegunAgain) {
          hasBegunAgain = true;
          continue;
        }
        throw unreachable(url, error instanceof KeptConnectionLost ? error.cause : error);
      }
      const target = redirectOf(answer, url);
      if (target === undefined) {
        if (answer.status >= 200 && answer.status < 300) return parseBody(answer.text, url);
        throw errorOf(answer, url);
      }
      redirects += 1;
      if (target.host !== url.host || target.protocol !== url.protocol || redirects > redirectsMax)
        throw new MigError(
          "controller_refused",
          `${url.host} redirects to ${target.origin}: only the configured address is asked; set controller.endpoint to the right one.`,
        );
      url = target;
    }
  };
  return { call, close: () => agent.destroy() };
}

class KeptConnectionLost extends Error {
  constructor(cause: unknown) {
    super("the kept connection is gone", { cause });
  }
}

function redirectOf({ status, headers }: HttpAnswer, url: URL): URL | undefined {
  if (status < 301 || status > 308 || status === 304 || headers.location === undefined) return undefined;
  try {
    return new URL(headers.location, url);
  } catch (cause) {
    throw new MigError("controller_unreachable", `${url.host} redirects to no address.`, { cause });
  }
}

function unreachable(url: URL, cause: unknown): MigError {
  if (cause instanceof MigError) return cause;
  return new MigError(
    "controller_unreachable",
    `The request to ${url.host} failed: ${explainFailure(cause)}.`,
    {
      cause,
    },
  );
}
