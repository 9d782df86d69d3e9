import { type ErrorCode, MigError } from "@mig/lifecycle";
import { asObject, readText } from "@mig/protocol";

/** What GitHub's refusal means, by its status and headers (runner-contract §8.5, §8.6). 404 also means "no permission". */
export interface GithubRefusal {
  status: number;
  headers: Readonly<Record<string, string | number | undefined>>;
  data: unknown;
}

const codes: Readonly<Record<number, ErrorCode>> = {
  401: "github_unauthorized",
  403: "github_forbidden",
  404: "github_not_installed",
  409: "github_conflict",
  422: "github_conflict",
  429: "github_rate_limited",
};

export function refusalOf(what: string, refusal: GithubRefusal, nowMs: number): MigError {
  const { status, headers, data } = refusal;
  const retryAfterMs = retryAfterOf(refusal, nowMs);
  const words = readText(asObject(data) ?? {}, "message");
  const code =
    retryAfterMs !== undefined && status === 403
      ? "github_rate_limited"
      : status === 422 && /permissions requested are not granted/i.test(words ?? "")
        ? "github_forbidden" // No other try helps before an owner accepts them.
        : (codes[status] ?? (status >= 500 ? "github_unavailable" : "github_forbidden"));
  const said = printable(words ?? "no message", 200);
  const id = printable(String(headers["x-github-request-id"] ?? "?"), 60);
  // GitHub names the permission that was missing; an operator needs nothing more.
  const wanted = headers["x-accepted-github-permissions"];
  const hint = status === 403 && wanted !== undefined ? `; it wants ${printable(String(wanted), 120)}` : "";
  const message = `GitHub refused ${what}: ${status} ${said}${hint} (request ${id})`;
  return new MigError(code, message, retryAfterMs === undefined ? {} : { retryAfterMs });
}

/**
 * How long GitHub wants to be left alone; undefined when the refusal is not about pace. A number of seconds or an
 * HTTP date (RFC 9110 §10.2.3); else the end of the window when nothing is left of it; else, for a secondary limit
 * that says nothing, a minute.
 */
export function retryAfterOf({ status, headers, data }: GithubRefusal, nowMs: number): number | undefined {
  if (status !== 403 && status !== 429 && status < 500) return undefined;
  const githubNowMs = saidAtMs(headers) ?? nowMs;
  const given = headers["retry-after"];
  if (given !== undefined) {
    const seconds = Number(given);
    return within(Number.isFinite(seconds) ? seconds * 1000 : Date.parse(String(given)) - githubNowMs);
  }
  // A server in trouble names no time, and is often back at once: how soon to ask again is the caller's backoff.
  if (status >= 500) return undefined;
  if (String(headers["x-ratelimit-remaining"]) === "0")
    return within(Number(headers["x-ratelimit-reset"] ?? Number.NaN) * 1000 - githubNowMs);
  const isSecondary = /rate limit|abuse detection/i.test(readText(asObject(data) ?? {}, "message") ?? "");
  return status === 429 || isSecondary ? 60_000 : undefined;
}

/** By the clock that the times in the same answer are meant by, which may be far from ours. */
export function saidAtMs(headers: GithubRefusal["headers"]): number | undefined {
  const atMs = Date.parse(String(headers["date"]));
  return Number.isFinite(atMs) ? atMs : undefined;
}

/** GitHub's windows are an hour long; what is out of all bounds is not believed. */
function within(waitMs: number): number {
  return Number.isFinite(waitMs) ? Math.min(3_600_000, Math.max(1_000, Math.ceil(waitMs))) : 60_000;
}

/** What a server says goes into logs and answers: one line, no control characters. */
function printable(text: string, lengthMax: number): string {
  return text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]+/gu, " ").slice(0, lengthMax);
}
