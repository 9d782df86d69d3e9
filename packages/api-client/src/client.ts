import type { Operations } from "./generated.ts";

/**
 * The operator API of a MIG Controller, with the types of its own OpenAPI document (generated.ts; made again by
 * `npm run generate`). It needs nothing but fetch.
 */
export interface ApiClient {
  /** `operation` is its method and path, as in the document. Rejects with ApiError for every answer that is no 2xx. */
  call<Name extends keyof Operations>(operation: Name, ...input: Input<Name>): Promise<ApiAnswer<Name>>;
}

export interface ApiClientSettings {
  /** As in `https://mig.example.com`. */
  readonly url: string;
  /** An API key (`mgk_…`), or whatever the controller takes as a bearer token; asked for each call when it is a function. */
  readonly token?: string | (() => string | Promise<string>);
  /** For one call, in milliseconds; 30 s without it. */
  readonly timeoutMs?: number;
  readonly fetch?: typeof fetch;
}

export type ApiAnswer<Name extends keyof Operations> = Operations[Name]["answer"];

type Parts<Name extends keyof Operations> = Omit<Operations[Name], "answer" | "item">;
/** Only what a call has, and nothing where it has nothing. */
type Input<Name extends keyof Operations> =
  Record<never, never> extends Parts<Name> ? [input?: Parts<Name> & More] : [input: Parts<Name> & More];

interface More {
  /** For writes: the same key again is answered with the first one's outcome (`Idempotency-Key`). */
  readonly idempotencyKey?: string;
  readonly signal?: AbortSignal;
}

/** What the controller said was wrong, or `unreachable` when it did not answer. */
export class ApiError extends Error {
  override name = "ApiError";
  readonly status: number;
  readonly code: string;
  readonly requestId: string | undefined;
  readonly retryAfterMs: number | undefined;

  constructor(
    status: number,
    about: { code: string; message: string; requestId?: string; retryAfterMs?: number },
  ) {
    super(about.message);
    this.status = status;
    this.code = about.code;
    this.requestId = about.requestId;
    this.retryAfterMs = about.retryAfterMs;
  }
}

interface LooseInput {
  readonly path?: Readonly<Record<string, unknown>>;
  readonly query?: Readonly<Record<string, unknown>>;
  readonly body?: unknown;
  readonly idempotencyKey?: string;
  readonly signal?: AbortSignal;
}

export function createApiClient({
  url,
  token,
  timeoutMs = 30_000,
  fetch: ask = fetch,
}: ApiClientSettings): ApiClient {
  const call = async (operation: string, input: LooseInput = {}): Promise<unknown> => {
    const [method = "GET", template = "/"] = operation.split(" ");
    const bearer = typeof token === "function" ? await token() : token;
    const headers = {
      accept: "application/json",
      ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
      ...(input.body === undefined ? {} : { "content-type": "application/json" }),
      ...(input.idempotencyKey === undefined ? {} : { "idempotency-key": input.idempotencyKey }),
    };
    const signals = [AbortSignal.timeout(timeoutMs), ...(input.signal === undefined ? [] : [input.signal])];
    let answer: Response;
    let text = "";
    try {
      answer = await ask(new URL(fill(template, input), url), {
        method,
        headers,
        signal: AbortSignal.any(signals),
        ...(input.body === undefined ? {} : { body: JSON.stringify(input.body) }),
      });
      if (answer.ok && answer.headers.get("content-type") === "application/gzip")
        return new Uint8Array(await answer.arrayBuffer());
      text = await answer.text();
    } catch (error) {
      throw new ApiError(0, { code: "unreachable", message: `${url} does not answer: ${String(error)}` });
    }
    const content = answer.headers.get("content-type")?.includes("json") === true ? parse(text) : text;
    if (!answer.ok) throw toError(answer.status, content);
    return text === "" ? undefined : content;
  };
  return { call: call as ApiClient["call"] };
}

function fill(template: string, { path = {}, query = {} }: LooseInput): string {
  const filled = template.replaceAll(/\{(\w+)\}/g, (_, name: string) =>
    encodeURIComponent(String(path[name])),
  );
  const search = new URLSearchParams(
    Object.entries(query).flatMap(([name, value]) =>
      value === undefined ? [] : [[name, String(value)] as [string, string]],
    ),
  ).toString();
  return search === "" ? filled : `${filled}?${search}`;
}

export function toError(status: number, content: unknown): ApiError {
  const { error } = (typeof content === "object" && content !== null ? content : {}) as {
    error?: { code?: string; message?: string; request_id?: string; retry_after_ms?: number };
  };
  return new ApiError(status, {
    code: error?.code ?? "unknown",
    message: error?.message ?? `HTTP ${status}`,
    ...(error?.request_id === undefined ? {} : { requestId: error.request_id }),
    ...(error?.retry_after_ms === undefined ? {} : { retryAfterMs: error.retry_after_ms }),
  });
}

export function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
