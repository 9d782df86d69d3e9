import { Agent as HttpAgent, type IncomingMessage, request as requestHttp } from "node:http";
import { Agent as HttpsAgent, request as requestHttps } from "node:https";
import { type ErrorCode, errorCodes, MigError } from "@mig/lifecycle";
import { asObject, limits, readNumber, readText } from "@mig/protocol";
import { boundHint } from "./bound-hint.ts";

export interface HttpClientSettings {
  endpoint: string;
  bearer?: (() => Promise<string | undefined>) | undefined;
  /** PEM of a private certificate authority. */
  ca?: string | undefined;
}

export interface HttpCall {
  method: "GET" | "POST";
  /** Below the endpoint, with a leading slash; already escaped. */
  path: string;
  body?: unknown;
  timeoutMs: number;
  signal?: AbortSignal | undefined;
}

export interface HttpClient {
  /** The JSON of a 2xx answer. Anything else is a MigError with the server's own hint when it gave one. */
  call(call: HttpCall): Promise<unknown>;
  close(): void;
}

/**
 * HTTP on node:http alone, because fetch costs 13 MB on the VM (agent-runtime.md). One kept-alive connection at a
 * time beside the held poll; answers are bounded; redirects are followed only within the same host.
 */
export function createHttpClient(settings: HttpClientSettings): HttpClient {
  const base = parseEndpoint(settings.endpoint);
  const isTls = base.protocol === "https:";
  const options = { keepAlive: true, maxSockets: 4, maxFreeSockets: 2, timeout: 60_000 };
  const agent = isTls
    ? new HttpsAgent({ ...options, ...(settings.ca === undefined ? {} : { ca: settings.ca }) })
    : new HttpAgent(options);

  const send = async (call: HttpCall, url: URL, redirects: number): Promise<unknown> => {
    const token = await settings.bearer?.();
    const payload = call.body === undefined ? undefined : Buffer.from(JSON.stringify(call.body));
    const signals = [
      AbortSignal.timeout(call.timeoutMs),
      ...(call.signal === undefined ? [] : [call.signal]),
    ];
    const answer = await new Promise<{ message: IncomingMessage; text: string }>((resolve, reject) => {
      const request = (isTls ? requestHttps : requestHttp)(url, {
        method: call.method,
        agent,
        signal: AbortSignal.any(signals),
        headers: {
          accept: "application/json",
          ...(payload === undefined
            ? {}
            : { "content-type": "application/json", "content-length": payload.length }),
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        },
      });
      request.on("error", reject);
      request.on("response", (message) => {
        readBounded(message).then((text) => resolve({ message, text }), reject);
      });
      request.end(payload);
    }).catch((cause: unknown) => {
      throw unreachable(url, cause, call.signal?.aborted === true);
    });
    const status = answer.message.statusCode ?? 0;
    const { location } = answer.message.headers;
    if (status >= 301 && status <= 308 && status !== 304 && location !== undefined) {
      const target = new URL(location, url);
      if (target.host === url.host && target.protocol === url.protocol && redirects < 3)
        return send(call, target, redirects + 1);
      throw new MigError(
        "controller_refused",
        `${url.host} redirects to ${target.host}: only the configured host is asked.`,
      );
    }
    if (status >= 200 && status < 300) return parseBody(answer.text, url);
    throw errorOf(status, answer.message, answer.text, url);
  };

  return {
    call: (call) => send(call, new URL(base.pathname.replace(/\/+$/, "") + call.path, base), 0),
    close: () => agent.destroy(),
  };
}

export function parseEndpoint(endpoint: string): URL {
  try {
    const url = new URL(/^[a-z]+:\/\//i.test(endpoint) ? endpoint : `http://${endpoint}`);
    if (/^https?:$/.test(url.protocol)) return url;
  } catch {
    // Said below.
  }
  throw new MigError("settings_invalid", `controller.endpoint "${endpoint}" is not an http or https URL.`);
}

async function readBounded(message: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of message as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > limits.messageBytesMax) {
      message.destroy();
      throw new MigError(
        "payload_too_large",
        `An answer of more than ${limits.messageBytesMax} bytes was cut off.`,
      );
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function parseBody(text: string, url: URL): unknown {
  if (text.trim() === "") return {};
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new MigError("controller_unreachable", `${url.host} answered something that is not JSON.`, {
      cause,
    });
  }
}

function unreachable(url: URL, cause: unknown, isAborted: boolean): MigError {
  if (cause instanceof MigError) return cause;
  const why = isAborted ? "was given up" : cause instanceof Error ? cause.message : String(cause);
  return new MigError("controller_unreachable", `The request to ${url.host} failed: ${why}.`, { cause });
}

const codeOfStatus: Readonly<Record<number, ErrorCode>> = {
  400: "invalid_request",
  401: "unauthenticated",
  403: "forbidden",
  404: "not_found",
  409: "conflict",
  410: "incarnation_lost",
  413: "payload_too_large",
  422: "refused",
  429: "rate_limited",
};

function errorOf(status: number, message: IncomingMessage, text: string, url: URL): MigError {
  let said: ReturnType<typeof asObject>;
  try {
    said = asObject(asObject(JSON.parse(text))?.["error"]);
  } catch {
    // Not one of our controllers, or a proxy between.
  }
  const saidCode = said === undefined ? undefined : readText(said, "code");
  const code =
    saidCode !== undefined && saidCode in errorCodes
      ? (saidCode as ErrorCode)
      : (codeOfStatus[status] ?? (status >= 500 ? "controller_unreachable" : "controller_refused"));
  const retryAfterMs = boundHint(
    (said === undefined ? undefined : readNumber(said, "retry_after_ms")) ??
      hintOf(message.headers["retry-after"]),
  );
  const words = (said === undefined ? undefined : readText(said, "message")) ?? `HTTP ${status}`;
  return new MigError(code, `${url.host} answered ${status} to ${url.pathname}: ${words}`, {
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}

/** Retry-After in its form with seconds. */
function hintOf(retryAfter: string | undefined): number | undefined {
  if (retryAfter === undefined || !/^\d{1,9}$/.test(retryAfter)) return undefined;
  return Number(retryAfter) * 1000;
}
