import { createSign } from "node:crypto";
import { type ErrorCode, MigError } from "@mig/lifecycle";
import { asObject, PRODUCT_VERSION, readText, readTimeMs, type Unknown } from "@mig/protocol";

/**
 * GitHub's REST API as a GitHub App uses it (runner-contract §8): the App's key signs a JWT, the JWT buys an
 * installation token, the installation token does the work. The key and the tokens never leave this folder.
 */
export interface AppCredentials {
  apiUrl: string;
  /** App id or client id. */
  appId: string;
  /** PEM, PKCS#1 or PKCS#8. */
  privateKey: string;
  installationId?: string;
}

export interface GithubApi {
  /** `base` is `/orgs/ORG` or `/repos/OWNER/REPO`, and `path` what follows it. */
  call(method: string, base: string, path: string, body?: Unknown): Promise<Unknown>;
}

const callTimeoutMs = 15_000;
const answerBytesMax = 1024 * 1024;
/** Tokens live for an hour; one that is about to die is not handed to a request that may take a while. */
const renewBeforeMs = 5 * 60_000;

export function createGithubApi(credentials: AppCredentials, signal: AbortSignal): GithubApi {
  const tokens = new Map<string, Promise<{ token: string; expiresAtMs: number }>>();

  async function tokenFor(base: string): Promise<string> {
    const known = tokens.get(base);
    if (known !== undefined) {
      const { token, expiresAtMs } = await known;
      if (expiresAtMs - renewBeforeMs > Date.now()) return token;
    }
    // One purchase for all who wait: a thousand VMs that boot together must not buy a thousand tokens.
    const current = tokens.get(base);
    if (current !== known && current !== undefined) return (await current).token;
    const bought = buyToken(base);
    tokens.set(base, bought);
    bought.catch(() => {
      if (tokens.get(base) === bought) tokens.delete(base);
    });
    return (await bought).token;
  }

  async function buyToken(base: string): Promise<{ token: string; expiresAtMs: number }> {
    const jwt = signJwt(credentials);
    const installation = credentials.installationId ?? (await send("GET", `${base}/installation`, jwt))["id"];
    const answer = await send("POST", `/app/installations/${String(installation)}/access_tokens`, jwt, {});
    const token = readText(answer, "token");
    const expiresAtMs = readTimeMs(answer, "expires_at");
    if (token === undefined || expiresAtMs === undefined) {
      throw new MigError(
        "github_unavailable",
        "GitHub's installation token came without token or expires_at",
      );
    }
    return { token, expiresAtMs };
  }

  async function send(method: string, path: string, bearer: string, body?: Unknown): Promise<Unknown> {
    const what = `${method} ${path}`;
    let response: Response;
    let text: string;
    try {
      response = await fetch(new URL(credentials.apiUrl.replace(/\/$/, "") + path), {
        method,
        // A token goes to the host it is for and nowhere else.
        redirect: "error",
        signal: AbortSignal.any([signal, AbortSignal.timeout(callTimeoutMs)]),
        headers: {
          accept: "application/vnd.github+json",
          authorization: `Bearer ${bearer}`,
          "user-agent": `mig-controller/${PRODUCT_VERSION}`,
          "x-github-api-version": "2022-11-28",
          ...(body === undefined ? {} : { "content-type": "application/json" }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      text = await readBounded(response);
    } catch (cause) {
      throw new MigError("github_unavailable", `GitHub did not answer ${what} (${causeOf(cause)})`, {
        cause,
        retryAfterMs: 5_000,
      });
    }
    if (!response.ok) throw refusalOf(what, response, text);
    return parse(what, text);
  }

  return {
    async call(method, base, path, body) {
      const token = await tokenFor(base);
      return send(method, base + path, token, body).catch((error: unknown) => {
        // Revoked before its time; the next call buys another.
        if (error instanceof MigError && error.code === "github_unauthorized") tokens.delete(base);
        throw error;
      });
    },
  };
}

/** ENOTFOUND, ECONNREFUSED, TimeoutError …: what an operator can search for. */
function causeOf(error: unknown): string {
  const inner = error instanceof Error ? (error.cause ?? error) : error;
  if (inner instanceof Error && "code" in inner && typeof inner.code === "string") return inner.code;
  return inner instanceof Error ? inner.name : "no reason given";
}

/** RS256; issued a minute ago, because clocks differ, and valid for nine of the ten minutes that GitHub allows. */
function signJwt({ appId, privateKey }: AppCredentials): string {
  const nowS = Math.floor(Date.now() / 1000);
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const unsigned = `${part({ alg: "RS256", typ: "JWT" })}.${part({ iat: nowS - 60, exp: nowS + 480, iss: appId })}`;
  try {
    return `${unsigned}.${createSign("RSA-SHA256").update(unsigned).sign(privateKey, "base64url")}`;
  } catch (cause) {
    throw new MigError(
      "github_unauthorized",
      "the GitHub App's private key cannot sign; is it the PEM that GitHub gave out?",
      {
        cause,
      },
    );
  }
}

async function readBounded(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.byteLength;
    if (bytes > answerBytesMax) throw new Error(`the answer is longer than ${answerBytesMax} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function parse(what: string, text: string): Unknown {
  if (text === "") return {};
  try {
    const object = asObject(JSON.parse(text));
    if (object !== undefined) return object;
  } catch {
    // Fall through: an HTML page from something in between.
  }
  throw new MigError("github_unavailable", `GitHub's answer to ${what} is not a JSON object`, {
    retryAfterMs: 5_000,
  });
}

/** Status and headers → what it means (runner-contract §8.5, §8.6). 404 also means "no permission". */
function refusalOf(what: string, response: Response, text: string): MigError {
  const said = messageIn(text);
  const message = `GitHub refused ${what}: ${response.status} ${said} (request ${response.headers.get("x-github-request-id") ?? "?"})`;
  const retryAfterMs = retryAfterOf(response);
  const codes: Record<number, ErrorCode> = {
    401: "github_unauthorized",
    403: retryAfterMs === undefined ? "github_forbidden" : "github_rate_limited",
    404: "github_not_installed",
    409: "github_conflict",
    422: "github_conflict",
    429: "github_rate_limited",
  };
  const code = codes[response.status] ?? (response.status >= 500 ? "github_unavailable" : "github_forbidden");
  return new MigError(code, message, retryAfterMs === undefined ? {} : { retryAfterMs });
}

/** Bodies of 5xx answers and of what stands in between need not be JSON (runner-contract §8.6). */
function messageIn(text: string): string {
  try {
    return readText(asObject(JSON.parse(text)) ?? {}, "message")?.slice(0, 200) ?? "no message";
  } catch {
    return "no message";
  }
}

function retryAfterOf({ status, headers }: Response): number | undefined {
  if (status !== 403 && status !== 429) return undefined;
  const seconds = Number(headers.get("retry-after"));
  if (headers.has("retry-after") && Number.isFinite(seconds)) return within(seconds * 1000);
  if (headers.get("x-ratelimit-remaining") === "0") {
    return within(Number(headers.get("x-ratelimit-reset") ?? Number.NaN) * 1000 - Date.now());
  }
  return status === 429 ? 60_000 : undefined;
}

/** GitHub's windows are an hour long; what is out of all bounds is not believed. */
function within(waitMs: number): number {
  return Number.isFinite(waitMs) ? Math.min(3_600_000, Math.max(1_000, waitMs)) : 60_000;
}
