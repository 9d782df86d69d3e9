import { asObject, readText, type Unknown } from "@mig/protocol";
import type { TokenSource } from "./credential.ts";
import { UsageError } from "./verb.ts";

/** The controller was not reached, or refused. `code`: what it said itself, as "not_found"; else "unreachable". */
export class ApiError extends Error {
  override name = "ApiError";
  readonly status: number | undefined;
  readonly code: string;

  constructor(message: string, status?: number, code = "unreachable") {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export interface Api {
  /** For what is no call: a stream. */
  readonly url: string;
  readonly token: TokenSource;
  call(method: string, path: string, body?: object, headers?: Record<string, string>): Promise<Unknown>;
  /** What is no JSON, as it is. */
  download(path: string): Promise<Buffer>;
}

export interface ApiSettings {
  url: string;
  /** Asked before each call. */
  token: TokenSource;
  signal: AbortSignal;
  timeoutMs?: number;
}

const answerBytesMax = 16 * 1024 * 1024;

/** The operator API of one controller. */
export function openApi({ url, token, signal, timeoutMs = 90_000 }: ApiSettings): Api {
  const base = URL.parse(url);
  if (base === null || !/^https?:$/.test(base.protocol))
    throw new UsageError("--url takes the controller's address, as in --url https://mig.internal:8080");
  if (base.username !== "" || base.password !== "")
    throw new UsageError("--url must not hold credentials; use migctl login");
  const root = base.href.replace(/\/+$/, "");
  const ask = async (
    method: string,
    path: string,
    body?: object,
    headers: Record<string, string> = {},
  ): Promise<{ answer: Response; bytes: Buffer }> => {
    const bearer = await token();
    try {
      const answer = await fetch(root + path, {
        method,
        // A token goes to the host that it is for and nowhere else.
        redirect: "error",
        signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
        headers: {
          ...headers,
          accept: "application/json",
          ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
          ...(body === undefined ? {} : { "content-type": "application/json" }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      if (Number(answer.headers.get("content-length") ?? 0) > answerBytesMax)
        throw new Error("it is too long");
      return { answer, bytes: Buffer.from(await answer.arrayBuffer()) };
    } catch (error) {
      throw new ApiError(`the controller at ${root} does not answer (${reasonOf(error)}); is --url right?`);
    }
  };
  const readJson = ({ answer, bytes }: { answer: Response; bytes: Buffer }): Unknown => {
    const text = bytes.toString("utf8");
    const content = text === "" ? {} : asObject(parse(text));
    if (content === undefined)
      throw new ApiError(`what answers at ${root} is no MIG controller; is --url right?`, answer.status);
    if (answer.ok) return content;
    const told = asObject(content["error"]) ?? {};
    const problem = readText(told, "message") ?? `it answered ${answer.status}`;
    const hint =
      answer.status === 401 ? "; log in with: migctl login URL (or give a key with --token-file)" : "";
    const code = readText(told, "code") ?? `http_${answer.status}`;
    throw new ApiError(`the controller refused: ${problem}${hint}`, answer.status, code);
  };
  return {
    url: root,
    token,
    call: async (method, path, body, headers) => readJson(await ask(method, path, body, headers)),
    async download(path) {
      const got = await ask("GET", path);
      if (!got.answer.ok) readJson(got);
      return got.bytes;
    },
  };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function reasonOf(error: unknown): string {
  const cause = error instanceof Error ? (error.cause ?? error) : error;
  if (!(cause instanceof Error)) return "no reason given";
  return "code" in cause && typeof cause.code === "string" ? cause.code : cause.message.slice(0, 120);
}
