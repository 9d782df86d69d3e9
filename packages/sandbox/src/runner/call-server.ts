import { request } from "node:http";

export interface Answer {
  readonly status: number;
  readonly text: string;
  readonly requestId: string;
  /** The body as an object; empty when it is none. */
  readonly body: Readonly<Record<string, unknown>>;
}

export interface ServerCall {
  readonly method: string;
  readonly url: string;
  readonly authorization: string;
  readonly body?: unknown;
  readonly signal?: AbortSignal;
}

/** The default timeout of the real runner's HTTP client (runner-contract §2.7). */
const timeoutMs = 100_000;

/** One HTTP call. `node:http` and not `fetch`, which costs 40 ms at the start of each of these processes. */
export function callServer(call: ServerCall): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const content = call.body === undefined ? "" : JSON.stringify(call.body);
    const outgoing = request(
      call.url,
      {
        method: call.method,
        timeout: timeoutMs,
        headers: {
          "user-agent": "VSServices/2.336.0 (stand-in) GitHubActionsRunner/2.336.0",
          authorization: call.authorization,
          "content-type": "application/json",
          "content-length": Buffer.byteLength(content),
        },
        ...(call.signal ? { signal: call.signal } : {}),
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("error", reject);
        response.on("end", () => {
          const text = Buffer.concat(chunks).toString("utf8");
          const requestId = String(response.headers["x-github-request-id"] ?? "");
          resolve({ status: response.statusCode ?? 0, text, requestId, body: parseObject(text) });
        });
      },
    );
    outgoing.on("timeout", () => outgoing.destroy(new Error("The HTTP request timed out after 00:01:40.")));
    outgoing.on("error", reject);
    outgoing.end(content);
  });
}

function parseObject(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null) return value as Record<string, unknown>;
  } catch {
    // Error pages need not be JSON.
  }
  return {};
}

/** The name that .NET gives a status code, as it stands in messages of config.sh. */
export function statusName(status: number): string {
  const names: Readonly<Record<number, string>> = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    422: "UnprocessableEntity",
    429: "TooManyRequests",
    500: "InternalServerError",
    502: "BadGateway",
    503: "ServiceUnavailable",
  };
  return names[status] ?? String(status);
}
