import type { AskStore } from "./ask-store.ts";

/** What the SDK wants of an HTTP handler, as far as this client uses it (@smithy/types, RequestHandler). */
interface SdkRequest {
  method: string;
  protocol: string;
  hostname: string;
  port?: number;
  path: string;
  query?: Record<string, string | string[] | null>;
  headers: Record<string, string>;
  body?: unknown;
}

interface SdkResponse {
  response: { statusCode: number; headers: Record<string, string>; body: Uint8Array };
}

export interface AwsHandler {
  handle(request: SdkRequest, options?: { abortSignal?: unknown }): Promise<SdkResponse>;
  updateHttpClientConfig(): void;
  httpHandlerConfigs(): Record<string, never>;
}

/** AWS's requests over our HTTP: the same limits of time and length, and no redirect to another host. */
export function createAwsHandler(store: AskStore): AwsHandler {
  return {
    async handle(request, options = {}) {
      const { method, protocol, hostname, port, path, headers, body } = request;
      if (method !== "POST" || !(typeof body === "string" || body instanceof Uint8Array))
        throw new Error("the AWS client sends something else than its JSON protocol");
      const { abortSignal } = options;
      const answer = await store.ask({
        method,
        url: `${protocol}//${hostname}${port === undefined ? "" : `:${port}`}${path}`,
        headers,
        body: toBuffer(body),
        ...(abortSignal instanceof AbortSignal ? { signal: abortSignal } : {}),
      });
      return { response: { statusCode: answer.status, headers: { ...answer.headers }, body: answer.body } };
    },
    updateHttpClientConfig() {},
    httpHandlerConfigs: () => ({}),
  };
}

/** Not `Buffer.from(body)`: the SDK's bytes pose as a text too, and warn whoever takes them for one. */
function toBuffer(body: string | Uint8Array): Buffer {
  return typeof body === "string"
    ? Buffer.from(body, "utf8")
    : Buffer.from(body.buffer, body.byteOffset, body.byteLength);
}
