import { Agent as HttpAgent, type IncomingMessage, request as requestHttp } from "node:http";
import { Agent as HttpsAgent, request as requestHttps } from "node:https";
import { MigError } from "@mig/lifecycle";
import { maybe } from "@mig/protocol";

/**
 * One request to a store over HTTP: with a total time limit, an answer of bounded length, redirects only within the
 * same origin (the token in the header is for that host and no other), and no body of an answer in any error.
 * On `node:http` and not on fetch, because a cluster's certificate authority is not one that the machine knows.
 */
export interface StoreRequest {
  method: "GET" | "POST" | "PUT";
  url: string;
  headers?: Readonly<Record<string, string>>;
  body?: Buffer | string;
  signal?: AbortSignal;
}

export interface StoreAnswer {
  status: number;
  headers: Readonly<Record<string, string>>;
  body: Buffer;
  /** From `Retry-After`, in seconds or as a date. */
  retryAfterMs: number | undefined;
}

export interface AskSettings {
  /** How messages name the store. */
  who: string;
  timeoutMs?: number;
  answerBytesMax?: number;
  /** Certificate authorities (PEM) instead of those that Node knows. Read anew for each connection. */
  readCa?: () => Promise<string | undefined>;
}

export interface AskStore {
  ask(request: StoreRequest): Promise<StoreAnswer>;
  close(): void;
}

const redirectsMax = 3;
/** Secret Manager's and Vault's largest payloads are 64 KiB and 1 MiB. */
const bytesMax = 2 * 1024 * 1024;
/** No hint is followed for longer than that: a store that says "in a year" must not be believed. */
const hintMaxMs = 15 * 60_000;

export function createAskStore({
  who,
  timeoutMs = 5_000,
  answerBytesMax = bytesMax,
  readCa,
}: AskSettings): AskStore {
  const http = new HttpAgent({ keepAlive: true, maxSockets: 8 });
  let https = new HttpsAgent({ keepAlive: true, maxSockets: 8 });
  let knownCa: string | undefined;

  async function trust(): Promise<void> {
    const ca = await readCa?.();
    if (ca === knownCa) return;
    knownCa = ca;
    https.destroy();
    https = new HttpsAgent({ keepAlive: true, maxSockets: 8, ...maybe("ca", ca) });
  }

  function once(
    url: URL,
    { method, headers, body }: StoreRequest,
    signal: AbortSignal,
  ): Promise<StoreAnswer> {
    return new Promise((resolve, reject) => {
      const isTls = url.protocol === "https:";
      const options = {
        method,
        headers: {
          accept: "application/json",
          ...headers,
          ...(body === undefined ? {} : { "content-length": Buffer.byteLength(body) }),
        },
        signal,
      };
      const request = isTls
        ? requestHttps(url, { ...options, agent: https }, (answer) => collect(answer).then(resolve, reject))
        : requestHttp(url, { ...options, agent: http }, (answer) => collect(answer).then(resolve, reject));
      request.on("error", reject);
      request.end(body);
    });
  }

  async function collect(answer: IncomingMessage): Promise<StoreAnswer> {
    const chunks: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      bytes += chunk.byteLength;
      if (bytes > answerBytesMax) {
        answer.destroy();
        throw new MigError("secret_unavailable", `${who} answers with more than ${answerBytesMax} bytes`);
      }
      chunks.push(chunk);
    }
    const headers = Object.fromEntries(
      Object.entries(answer.headers).map(([name, value]) => [
        name,
        Array.isArray(value) ? value.join(", ") : (value ?? ""),
      ]),
    );
    const body = Buffer.concat(chunks);
    for (const chunk of chunks) chunk.fill(0);
    return {
      status: answer.statusCode ?? 0,
      headers,
      body,
      retryAfterMs: readRetryAfterMs(headers["retry-after"]),
    };
  }

  return {
    async ask(request) {
      const limit = AbortSignal.timeout(timeoutMs);
      const signal = request.signal === undefined ? limit : AbortSignal.any([limit, request.signal]);
      try {
        await trust();
        let url = new URL(request.url);
        for (let hop = 0; ; hop += 1) {
          const answer = await once(url, request, signal);
          const next = redirectOf(answer, url, request.method, who);
          if (next === undefined) return answer;
          if (hop >= redirectsMax)
            throw new MigError("secret_unavailable", `${who} redirects more than ${redirectsMax} times`);
          url = next;
        }
      } catch (error) {
        throw translate(error, who, limit.aborted, timeoutMs);
      }
    },
    close() {
      http.destroy();
      https.destroy();
    },
  };
}

function redirectOf(
  { status, headers }: StoreAnswer,
  from: URL,
  method: string,
  who: string,
): URL | undefined {
  if (![301, 302, 303, 307, 308].includes(status)) return undefined;
  const to = headers["location"] ?? "";
  const target = URL.canParse(to, from.href) ? new URL(to, from) : undefined;
  if (target?.origin !== from.origin || (status < 307 && method !== "GET"))
    throw new MigError(
      "secret_unavailable",
      `${who} redirects to ${target?.origin ?? "nowhere"}, which is not followed: the request carries our credentials. ` +
        "If that is where it should go, set it as the store's address",
    );
  return target;
}

/** Seconds or a date (RFC 9110 §10.2.3). */
export function readRetryAfterMs(text: string | undefined): number | undefined {
  if (text === undefined || text === "") return undefined;
  const ms = /^\d{1,9}$/.test(text) ? Number(text) * 1_000 : Date.parse(text) - Date.now();
  return Number.isFinite(ms) ? Math.min(hintMaxMs, Math.max(0, ms)) : undefined;
}

/** Certificates that do not fit are somebody's mistake to correct; waiting does not help. */
const untrusted = /CERT|SELF_SIGNED|UNABLE_TO_|ERR_TLS|ERR_SSL|HOSTNAME_MISMATCH/;

function translate(error: unknown, who: string, isLate: boolean, timeoutMs: number): MigError {
  if (error instanceof MigError) return error;
  if (isLate) return new MigError("secret_unavailable", `${who} does not answer within ${timeoutMs} ms`);
  const code = error instanceof Error && "code" in error ? String(error.code) : "no code";
  if (untrusted.test(code))
    return new MigError(
      "secret_forbidden",
      `${who} shows a certificate that is not trusted (${code}); set the file of its certificate authority, or correct the address`,
    );
  // Without its cause: a parser's error carries the bytes that it could not read (`rawPacket`).
  return new MigError("secret_unavailable", `${who} cannot be reached (${code})`);
}
