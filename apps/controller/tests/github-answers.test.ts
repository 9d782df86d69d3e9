import { createServer, type RequestListener } from "node:http";
import { expect, it } from "vitest";
import type { GithubApp } from "../src/github/app.ts";
import { refusalOf, retryAfterOf } from "../src/github/refusal.ts";
import { createRegistrar } from "../src/github/registrar.ts";
import { createGithubWire } from "../src/github/wire.ts";
import { backoffMs } from "../src/runner/make-grants.ts";

/** What was once wrong in how GitHub's answers were understood, one test for each. */
const says = (message: string) => ({ message });

it.each([500, 502, 503, 504])("a %i is asked again within a second, not after five", (status) => {
  expect(retryAfterOf({ status, headers: {}, data: "" }, 0)).toBeUndefined();
  for (const random of [0, 0.5, 0.99]) expect(backoffMs(1, random)).toBeLessThan(1_000);
  expect(backoffMs(1, 0.1)).not.toBe(backoffMs(1, 0.9));
  expect(backoffMs(20, 1)).toBeLessThan(5_000);
});

it.each([-600, 600, 3 * 86_400])(
  "a Retry-After date and a reset are GitHub's times, when its clock is %i s from ours",
  (skewSeconds) => {
    const nowMs = Date.parse("2026-01-01T00:00:00Z");
    const githubMs = nowMs + skewSeconds * 1000;
    const date = new Date(githubMs).toUTCString();
    const until = new Date(githubMs + 3_000).toUTCString();
    const reset = githubMs / 1000 + 3;
    const spent = { date, "x-ratelimit-remaining": "0", "x-ratelimit-reset": reset };
    expect(retryAfterOf({ status: 429, headers: { date, "retry-after": until }, data: {} }, nowMs)).toBe(
      3_000,
    );
    expect(retryAfterOf({ status: 403, headers: spent, data: {} }, nowMs)).toBe(3_000);
  },
);

it("permissions that are not granted need a person, and no other try", () => {
  const data = says("The permissions requested are not granted to this installation.");
  expect(refusalOf("POST /x", { status: 422, headers: {}, data }, 0)).toMatchObject({
    code: "github_forbidden",
  });
});

it.each([
  ["past by GitHub's clock", 600_000, false],
  ["past by ours only", -600_000, true],
] as const)("a registration token whose expiry is %s", async (_name, skewMs, isGood) => {
  const expires_at = new Date(Date.now() + (isGood ? -300_000 : 300_000)).toISOString();
  const app: GithubApp = {
    id: "default",
    call: async () => ({ token: "AAAA", expires_at }),
    callAsApp: async () => ({}),
    skewMs: () => skewMs,
  };
  const wish = { runnerUrl: "https://github.com/acme", runnerGroup: "", labels: [], runnerName: "r" };
  const made = createRegistrar(app).register({ ...wish, registration: "token" });
  if (isGood) expect((await made).expiresAtMs).toBeGreaterThan(Date.now());
  else await expect(made).rejects.toMatchObject({ code: "github_unavailable" });
});

it("a GET that repeats asks whether anything is new, and 304 gives what was known", async () => {
  const asked: (string | undefined)[] = [];
  await using server = await serve((request, response) => {
    asked.push(request.headers["if-none-match"]);
    const isKnown = request.headers["if-none-match"] === '"one"';
    response.writeHead(isKnown ? 304 : 200, { etag: '"one"', "content-type": "application/json" });
    response.end(isKnown ? undefined : JSON.stringify({ runners: [] }));
  });
  const heard: number[] = [];
  const wire = createGithubWire({
    apiUrl: server.url,
    signal: new AbortController().signal,
    onAnswer: ({ status }) => heard.push(status),
  });
  const first = await wire.send("GET /orgs/{org}/actions/runners", { org: "acme", page: 1 }, "t");
  Object.assign(first, { runners: "changed by who asked" });
  expect(await wire.send("GET /orgs/{org}/actions/runners", { org: "acme", page: 1 }, "t")).toEqual({
    runners: [],
  });
  await wire.send("GET /orgs/{org}/actions/runners", { org: "acme", page: 2 }, "t");
  await wire.send("POST /orgs/{org}/actions/runners", { org: "acme", page: 1 }, "t");
  expect(asked).toEqual([undefined, '"one"', undefined, undefined]);
  expect(heard).toEqual([200, 304, 200, 200]);
});

async function serve(listener: RequestListener): Promise<{ url: string } & AsyncDisposable> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return {
    url: `http://127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
