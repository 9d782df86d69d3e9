/**
 * Everything that GitHub, or what stands between it and us, can answer with (reliability-security §5.3 "GitHub
 * responses"), by name: a test takes the list as its table, and says which calls it happens to.
 */
import type { Fault } from "./fault-types.ts";

/** The calls that a control plane makes, by what they are for. */
export const githubCalls = {
  app: { method: "GET", path: "^/app$" },
  installation: { method: "GET", path: "/installation$" },
  token: { method: "POST", path: "/access_tokens$" },
  grant: { method: "POST", path: "/(?:registration-token|generate-jitconfig)$" },
  groups: { method: "GET", path: "/runner-groups$" },
  list: { method: "GET", path: "/actions/runners$" },
  remove: { method: "DELETE", path: "/actions/runners/\\d+$" },
} as const satisfies Record<string, Pick<Fault, "method" | "path">>;
export type GithubCall = keyof typeof githubCalls;

export type GithubFaultKind =
  /** Another attempt, once it is over, succeeds; some are no failure at all for a good client. */
  | "passes"
  /** No attempt helps before a person does something. */
  | "for good"
  /** GitHub wants to be left alone, mostly until a time that it names. */
  | "limit";

export interface GithubFault {
  readonly name: string;
  readonly kind: GithubFaultKind;
  /** The calls that it can happen to. */
  readonly on: readonly GithubCall[];
  /** `addFault({ ...fault, ...githubCalls.grant })` makes it happen. */
  readonly fault: Omit<Fault, "path" | "method">;
}

const asApp = ["app", "installation", "token"] as const;
const asInstallation = ["grant", "groups", "list", "remove"] as const;
const everywhere = [...asApp, ...asInstallation];
const withBody = everywhere.filter((call) => call !== "remove");
const html = { "content-type": "text/html; charset=utf-8" };
const unicorn =
  "<!DOCTYPE html><html><head><title>Unicorn! &middot; GitHub</title></head><body><p>502</p></body></html>";
const docs = "https://docs.github.com/rest";
const says = (message: string, more: object = {}) => ({ message, documentation_url: docs, ...more });
const secondary = says(
  "You have exceeded a secondary rate limit. Please wait a few minutes before you try again. If you reach out to GitHub Support for help, please include the request ID 0000:0000:0000:0000:00000000.",
);
const primary = says("API rate limit exceeded for installation ID 1.");
const spent = (reset: string) => ({
  "x-ratelimit-limit": "5000",
  "x-ratelimit-remaining": "0",
  "x-ratelimit-used": "5000",
  "x-ratelimit-reset": reset,
});
const plenty = { "x-ratelimit-remaining": "4000" };
const otherHost = "http://localhost:{port}{target}";

type Named = readonly [name: string, fault: GithubFault["fault"], on?: readonly GithubCall[]];

const passing: readonly Named[] = [
  ["500", { status: 500, body: says("Server Error") }],
  ["502 with HTML", { status: 502, headers: html, body: unicorn }],
  ["503", { status: 503, body: says("Service unavailable") }],
  [
    "503 with Retry-After",
    { status: 503, headers: { "retry-after": "1" }, body: says("Service unavailable") },
  ],
  ["504 without a body", { status: 504, body: "" }],
  ["connections are refused", { connect: "refused", forMs: 1_000 }],
  ["connections hang", { connect: "hang", forMs: 1_000 }],
  ["no answer", { hang: true }],
  ["cut before the request took effect", { drop: "before" }],
  ["cut after it took effect", { drop: "after" }],
  ["the head, then silence", { deliver: "stall" }, withBody],
  ["a byte a second", { deliver: "trickle" }, withBody],
  ["a reset in the middle of the body", { deliver: "reset" }, withBody],
  ["truncated JSON", { deliver: "truncated" }, withBody],
  ["invalid JSON", { status: 200, body: '{"token": nope}' }, withBody],
  ["200 with HTML", { status: 200, headers: html, body: unicorn }, withBody],
  ["200 with nothing", { status: 200, body: "" }, withBody],
  ["200 with a list", { status: 200, body: [] }, withBody],
  [
    "an answer without its fields",
    {
      merge: {
        ...{ token: null, expires_at: null, encoded_jit_config: null, runner: null },
        ...{ id: null, runner_groups: null, runners: null },
      },
    },
    withBody,
  ],
  [
    "an answer whose fields have wrong types",
    {
      merge: {
        ...{ token: 7, expires_at: true, encoded_jit_config: ["x"], runner: "x" },
        ...{ id: "one", runner_groups: {}, runners: "none" },
      },
    },
    withBody,
  ],
  [
    "a token with a newline",
    {
      merge: {
        token: "ghs_x\r\nx-injected: 1",
        expires_at: "2999-01-01T00:00:00Z",
        encoded_jit_config: "AAAAAAAAAAAAAAAA\nAAAA",
      },
    },
    ["token", "grant"],
  ],
  ["expires_at in the past", { merge: { expires_at: "2020-01-01T00:00:00Z" } }, ["token", "grant"]],
  ["an expires_at that is no time", { merge: { expires_at: "tomorrow" } }, ["token", "grant"]],
  ["100 MB", { deliver: "huge" }, withBody],
  ["a gzip bomb", { deliver: "bomb" }, withBody],
  ["301 to another host", { status: 301, headers: { location: otherHost }, body: says("Moved Permanently") }],
  ["307 to another host", { status: 307, headers: { location: otherHost }, body: says("Moved Permanently") }],
  [
    "301 to the same host",
    { status: 301, headers: { location: "{target}" }, body: says("Moved Permanently") },
  ],
  [
    "307 to the same host",
    { status: 307, headers: { location: "{target}" }, body: says("Moved Permanently") },
  ],
  ["a redirect without end", { status: 307, headers: { location: "{target}" }, body: "", times: 30 }],
  ["a redirect to nowhere", { status: 307, body: "" }],
  ["a redirect to a file", { status: 307, headers: { location: "file:///etc/passwd" }, body: "" }],
  ["401 for a token that was taken back", { status: 401, body: says("Bad credentials") }, asInstallation],
  [
    "404 for an installation that has another number now",
    { status: 404, body: says("Not Found") },
    ["token"],
  ],
  [
    "409 the runner's name exists",
    { status: 409, body: says("Already exists - A runner with the name x already exists.") },
    ["grant"],
  ],
  [
    "422 the runner's name exists",
    { status: 422, body: says("Already exists - A runner with the name x already exists.") },
    ["grant"],
  ],
  ["GitHub's clock is ten minutes ahead", { clockSkewMs: 600_000 }, asApp],
  ["GitHub's clock is ten minutes behind", { clockSkewMs: -600_000 }, asApp],
  ["GitHub's clock is three days ahead", { clockSkewMs: 3 * 86_400_000 }, asApp],
  ["GitHub's clock is three days behind", { clockSkewMs: -3 * 86_400_000 }, asApp],
];

const lasting: readonly Named[] = [
  [
    "401 the JWT cannot be decoded",
    { status: 401, body: says("A JSON web token could not be decoded") },
    asApp,
  ],
  [
    "401 the JWT has expired, by a clock like ours",
    {
      status: 401,
      body: says(
        "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires",
      ),
    },
    asApp,
  ],
  ["404 another App's key", { status: 404, body: says("Integration not found") }, asApp],
  [
    "403 the installation is suspended",
    { status: 403, body: says("This installation has been suspended") },
    ["token", ...asInstallation],
  ],
  ["404 not installed", { status: 404, body: says("Not Found") }, ["installation", "token"]],
  [
    "403 a permission is missing",
    {
      status: 403,
      headers: { "x-accepted-github-permissions": "organization_self_hosted_runners=write", ...plenty },
      body: says("Resource not accessible by integration"),
    },
    asInstallation,
  ],
  [
    "422 the permissions are not granted",
    { status: 422, body: says("The permissions requested are not granted to this installation.") },
    ["token"],
  ],
  ["404 no such organization, group or permission", { status: 404, body: says("Not Found") }, ["grant"]],
];

const limiting: readonly Named[] = [
  [
    "429 with Retry-After in seconds",
    { status: 429, headers: { "retry-after": "2", ...plenty }, body: secondary },
  ],
  [
    "429 with Retry-After as a date",
    { status: 429, headers: { "retry-after": "{date+3}", ...plenty }, body: secondary },
  ],
  ["403 the hour is used up", { status: 403, headers: spent("{epoch+3}"), body: primary }],
  ["429 the hour is used up", { status: 429, headers: spent("{epoch+3}"), body: primary }],
  [
    "403 the hour was used up, says a reset in the past",
    { status: 403, headers: spent("{epoch-30}"), body: primary },
  ],
  [
    "403 secondary with Retry-After",
    { status: 403, headers: { "retry-after": "2", ...plenty }, body: secondary },
  ],
  ["403 secondary that names no time", { status: 403, headers: plenty, body: secondary }],
  ["429 that names no time", { status: 429, body: secondary }],
  [
    "403 in the words of old",
    {
      status: 403,
      headers: plenty,
      body: says(
        "You have triggered an abuse detection mechanism. Please wait a few minutes before you try again.",
      ),
    },
  ],
  [
    "429 with a Retry-After that is no time",
    { status: 429, headers: { "retry-after": "soon" }, body: secondary },
  ],
  [
    "429 with a Retry-After of a year",
    { status: 429, headers: { "retry-after": "31536000" }, body: secondary },
  ],
];

export const githubFaults: readonly GithubFault[] = [
  ...entries("passes", passing),
  ...entries("for good", lasting, { times: null }),
  ...entries("limit", limiting),
];

function entries(
  kind: GithubFaultKind,
  named: readonly Named[],
  more: Partial<Fault> = {},
): readonly GithubFault[] {
  return named.map(([name, fault, on = everywhere]) => ({ name, kind, on, fault: { ...fault, ...more } }));
}
