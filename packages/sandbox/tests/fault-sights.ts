import { expect } from "vitest";

/** What a caller gets to see of an answer, or of none. */
export interface Seen {
  readonly status?: number;
  readonly headers?: Headers;
  readonly text?: string;
  /** Of a failure: the code, or what it says. */
  readonly error?: string;
}

const retryAfterS = (seen: Seen): number => {
  const given = seen.headers?.get("retry-after") ?? "";
  return /^\d+$/.test(given) ? Number(given) : (Date.parse(given) - Date.now()) / 1000;
};
const resetS = (seen: Seen): number => Number(seen.headers?.get("x-ratelimit-reset")) - Date.now() / 1000;
const json = (seen: Seen) => JSON.parse(seen.text ?? "") as Record<string, unknown>;
const fails = (pattern: RegExp) => (seen: Seen) => expect(seen.error).toMatch(pattern);
const answers = (status: number, pattern: RegExp) => (seen: Seen) => {
  expect(seen.status).toBe(status);
  expect(seen.text).toMatch(pattern);
};
const leads = (status: number, pattern: RegExp) => (seen: Seen) => {
  expect(seen.status).toBe(status);
  expect(seen.headers?.get("location") ?? "").toMatch(pattern);
};
const limits =
  (status: number, fromS: number, toS: number, secondsOf: (seen: Seen) => number) => (seen: Seen) => {
    expect(seen.status).toBe(status);
    expect(json(seen)["message"]).toMatch(/rate limit/);
    expect(secondsOf(seen)).toBeGreaterThan(fromS);
    expect(secondsOf(seen)).toBeLessThanOrEqual(toS);
  };
const off = (ms: number) => (seen: Seen) => {
  const skewMs = Date.parse(seen.headers?.get("date") ?? "") - Date.now();
  expect(Math.abs(skewMs - ms)).toBeLessThan(3_000);
};

/** By the name of the fault. */
export const seenOf: Record<string, (seen: Seen) => void> = {
  "500": answers(500, /Server Error/),
  "502 with HTML": (seen) => {
    answers(502, /<!DOCTYPE html>/)(seen);
    expect(seen.headers?.get("content-type")).toMatch(/^text\/html/);
  },
  "503": answers(503, /unavailable/),
  "503 with Retry-After": (seen) => expect(retryAfterS(seen)).toBe(1),
  "504 without a body": answers(504, /^$/),
  "connections are refused": fails(/ECONNREFUSED/),
  "connections hang": fails(/TimeoutError/),
  "no answer": fails(/TimeoutError/),
  "cut before the request took effect": fails(/UND_ERR_SOCKET|ECONNRESET/),
  "cut after it took effect": fails(/UND_ERR_SOCKET|ECONNRESET/),
  "the head, then silence": fails(/TimeoutError/),
  "a byte a second": fails(/TimeoutError/),
  "a reset in the middle of the body": fails(/ECONNRESET|UND_ERR_SOCKET/),
  "truncated JSON": (seen) => {
    expect(seen.status).toBe(201);
    expect(() => json(seen)).toThrow(SyntaxError);
  },
  "invalid JSON": answers(200, /nope/),
  "200 with HTML": answers(200, /<html>/),
  "200 with nothing": answers(200, /^$/),
  "200 with a list": answers(200, /^\[\]$/),
  "an answer without its fields": (seen) => expect(json(seen)).toEqual({}),
  "an answer whose fields have wrong types": (seen) =>
    expect(json(seen)).toMatchObject({ encoded_jit_config: ["x"], runner: "x", id: "one" }),
  "a token with a newline": (seen) => expect(json(seen)["encoded_jit_config"]).toContain("\n"),
  "expires_at in the past": (seen) => expect(json(seen)["expires_at"]).toBe("2020-01-01T00:00:00Z"),
  "an expires_at that is no time": (seen) => expect(json(seen)["expires_at"]).toBe("tomorrow"),
  "100 MB": (seen) => expect(seen.text?.length).toBeGreaterThan(100_000_000),
  "a gzip bomb": (seen) => {
    expect(seen.headers?.get("content-encoding")).toBe("gzip");
    expect(seen.text?.length).toBeGreaterThan(100_000_000);
  },
  "301 to another host": leads(301, /^http:\/\/localhost:\d+\/orgs\/acme\//),
  "307 to another host": leads(307, /^http:\/\/localhost:\d+\/orgs\/acme\//),
  "301 to the same host": leads(301, /^\/orgs\/acme\//),
  "307 to the same host": leads(307, /^\/orgs\/acme\//),
  "a redirect without end": leads(307, /^\/orgs\/acme\//),
  "a redirect to nowhere": leads(307, /^$/),
  "a redirect to a file": leads(307, /^file:/),
  "401 for a token that was taken back": answers(401, /Bad credentials/),
  "404 for an installation that has another number now": answers(404, /Not Found/),
  "409 the runner's name exists": answers(409, /already exists/),
  "422 the runner's name exists": answers(422, /already exists/),
  "GitHub's clock is ten minutes ahead": off(600_000),
  "GitHub's clock is ten minutes behind": off(-600_000),
  "GitHub's clock is three days ahead": off(3 * 86_400_000),
  "GitHub's clock is three days behind": off(-3 * 86_400_000),
  "401 the JWT cannot be decoded": answers(401, /could not be decoded/),
  "401 the JWT has expired, by a clock like ours": (seen) => {
    answers(401, /'Expiration time' claim/)(seen);
    off(0)(seen);
  },
  "404 another App's key": answers(404, /Integration not found/),
  "403 the installation is suspended": answers(403, /suspended/),
  "404 not installed": answers(404, /Not Found/),
  "403 a permission is missing": (seen) => {
    answers(403, /not accessible/)(seen);
    expect(seen.headers?.get("x-accepted-github-permissions")).toBe("organization_self_hosted_runners=write");
  },
  "422 the permissions are not granted": answers(422, /not granted/),
  "404 no such organization, group or permission": answers(404, /Not Found/),
  "429 with Retry-After in seconds": limits(429, 1, 2, retryAfterS),
  "429 with Retry-After as a date": limits(429, 1, 3, retryAfterS),
  "403 the hour is used up": limits(403, 1, 3, resetS),
  "429 the hour is used up": limits(429, 1, 3, resetS),
  "403 the hour was used up, says a reset in the past": limits(403, -40, -20, resetS),
  "403 secondary with Retry-After": limits(403, 1, 2, retryAfterS),
  "403 secondary that names no time": answers(403, /secondary rate limit/),
  "429 that names no time": answers(429, /secondary rate limit/),
  "403 in the words of old": answers(403, /abuse detection/),
  "429 with a Retry-After that is no time": (seen) => expect(seen.headers?.get("retry-after")).toBe("soon"),
  "429 with a Retry-After of a year": limits(429, 31_000_000, 32_000_000, retryAfterS),
};
