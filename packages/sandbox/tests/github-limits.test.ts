import { waitFor } from "@mig/kit";
import { type GithubLimits, type GithubOptions, githubCalls, githubLimits } from "@mig/sandbox";
import fc from "fast-check";
import { afterEach, describe, expect, it } from "vitest";
import { GithubClock } from "../src/github/clock.ts";
import { Limits } from "../src/github/limits.ts";
import { Lab } from "./lab.ts";

const runners = "/orgs/acme/actions/runners";

describe("rate limits of the stand-in", () => {
  let lab: Lab | undefined;
  let token = "";
  afterEach(() => lab?.close());

  async function open(limits?: GithubLimits, more: GithubOptions = {}) {
    lab = await Lab.open({ ...(limits === undefined ? {} : { limits }), ...more });
    const { github } = lab;
    token = await lab.installationToken();
    const call = async (method: string, path: string, body?: object) => {
      const response = await fetch(github.url + path, {
        method,
        headers: { authorization: `Bearer ${token}`, "user-agent": "mig-tests" },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const text = await response.text();
      const numberOf = (name: string) => Number(response.headers.get(name) ?? Number.NaN);
      return {
        status: response.status,
        headers: response.headers,
        text,
        remaining: numberOf("x-ratelimit-remaining"),
        used: numberOf("x-ratelimit-used"),
        resource: response.headers.get("x-ratelimit-resource"),
        retryAfter: numberOf("retry-after"),
        resetInS: numberOf("x-ratelimit-reset") - Date.now() / 1000,
      };
    };
    return { github, call };
  }

  it("counts without refusing, each bucket for itself, when it is given none", async () => {
    const { call } = await open();
    expect(await call("GET", runners)).toMatchObject({ status: 200, remaining: 4_999, resource: "core" });
    expect(await call("POST", `${runners}/registration-token`)).toMatchObject({
      status: 201,
      remaining: 9_999,
      resource: "actions_runner_registration",
    });
    expect(await call("GET", runners)).toMatchObject({ remaining: 4_998, used: 2 });
    const overview = await call("GET", "/rate_limit");
    expect(JSON.parse(overview.text)).toMatchObject({
      resources: { actions_runner_registration: { limit: 10_000, used: 1, remaining: 9_999 } },
    });
  });

  it("says nothing of limits when it is a server without them", async () => {
    const { call } = await open(undefined, { enterpriseVersion: "3.19.0" });
    const answer = await call("GET", runners);
    expect(answer.headers.get("x-ratelimit-remaining")).toBeNull();
    expect(answer.headers.get("x-github-enterprise-version")).toBe("3.19.0");
  });

  it("refuses when the hour is used up, and tells when it is full again", async () => {
    const { call } = await open({ corePerHour: 100, usedAtStart: 98, minuteMs: 50 });
    expect([(await call("GET", runners)).remaining, (await call("GET", runners)).remaining]).toEqual([1, 0]);
    const refused = await call("GET", runners);
    expect(refused).toMatchObject({ status: 403, remaining: 0 });
    expect(JSON.parse(refused.text)).toMatchObject({
      message: "API rate limit exceeded for installation ID 1.",
      status: "403",
    });
    expect(refused.resetInS).toBeGreaterThan(0);
    expect(refused.resetInS).toBeLessThan(5);
    // Registrations have a bucket of their own.
    expect((await call("POST", `${runners}/registration-token`)).status).toBe(201);
    await waitFor("the next hour", async () => (await call("GET", runners)).status === 200);
  });

  it("counts five points for a write, and holds a secondary limit for a while", async () => {
    const { call, github } = await open({ pointsPerMinute: 12, minuteMs: 2_000, refuseWith: 429 });
    expect((await call("POST", `${runners}/registration-token`)).status).toBe(201);
    expect((await call("POST", `${runners}/registration-token`)).status).toBe(201);
    expect([(await call("GET", runners)).status, (await call("GET", runners)).status]).toEqual([200, 200]);
    const refused = await call("GET", runners);
    expect(refused).toMatchObject({ status: 429, retryAfter: 2, remaining: 4_998 });
    expect(JSON.parse(refused.text)).toMatchObject({
      message: expect.stringMatching(/^You have exceeded a secondary rate limit\. .* request ID \S+\.$/),
    });
    expect((await call("GET", runners)).status).toBe(429);
    expect(await github.traffic()).toMatchObject({ limited: 2 });
    await waitFor("the end of the limit", async () => (await call("GET", runners)).status === 200);
  });

  it("counts what creates content, and keeps the time to itself when told", async () => {
    const { call } = await open({ contentPerMinute: 2, tellsRetryAfter: false, minuteMs: 60_000 });
    for (let i = 0; i < 2; i += 1)
      expect((await call("POST", `${runners}/registration-token`)).status).toBe(201);
    const refused = await call("POST", `${runners}/registration-token`);
    expect(refused.status).toBe(403);
    expect(refused.headers.get("retry-after")).toBeNull();
  });

  it("allows only so many calls at once, and says how many there were", async () => {
    const { call, github } = await open({ concurrent: 3 });
    await github.addFault({ ...githubCalls.list, times: null, deliver: "stall" });
    const stalled = new AbortController();
    const held = Array.from({ length: 3 }, () =>
      fetch(`${github.url}${runners}`, {
        signal: stalled.signal,
        headers: { authorization: `Bearer ${token}`, "user-agent": "mig-tests" },
      }).then(
        (response) => response.text().catch(() => ""),
        () => "",
      ),
    );
    await waitFor("three calls under way", async () => (await github.traffic()).underWay === 3);
    expect((await call("GET", "/orgs/acme/actions/runner-groups")).status).toBe(403);
    stalled.abort();
    await Promise.all(held);
    await waitFor("the calls to end", async () => (await github.traffic()).underWay === 0);
    expect((await github.traffic()).concurrentMax).toBe(4);
  });

  it("knows who came back before a Retry-After had ended", async () => {
    const { call, github } = await open();
    await github.addFault({ ...githubCalls.list, status: 403, headers: { "retry-after": "1" } });
    await call("GET", runners);
    // At once: it may have crossed the answer. Later: it has not listened.
    await call("GET", runners);
    const crossed = await github.traffic();
    expect(crossed).toMatchObject({ limited: 1, early: [{ toldStatus: 403 }] });
    expect(crossed.tooEarly).toBe(Number((crossed.early[0]?.afterMs ?? 0) > 250));
    await waitFor("a call that is too early", async () => {
      await call("GET", runners);
      return (await github.traffic()).tooEarly > 0;
    });
    const { early } = await github.traffic();
    expect(early.at(-1)).toMatchObject({ method: "GET", path: runners });
    await waitFor("the end of the Retry-After", async () => {
      const before = (await github.traffic()).early.length;
      await call("GET", runners);
      return (await github.traffic()).early.length === before;
    });
  });

  it("a 304 costs nothing", async () => {
    const { call, github } = await open();
    const { headers } = await call("GET", runners);
    const again = await fetch(github.url + runners, {
      headers: {
        authorization: `Bearer ${token}`,
        "user-agent": "mig-tests",
        "if-none-match": headers.get("etag") ?? "",
      },
    });
    expect(again.status).toBe(304);
    expect(await call("GET", runners)).toMatchObject({ used: 2 });
  });
});

describe("the count of points", () => {
  it("never lets more through in any minute than the limit, and everything below it", () => {
    const call = fc.record({ gapMs: fc.nat(400), method: fc.constantFrom("GET", "POST", "DELETE") });
    fc.assert(
      fc.property(
        fc.array(call, { maxLength: 60 }),
        fc.integer({ min: 5, max: 40 }),
        (calls, pointsPerMinute) => {
          const realNow = Date.now;
          let nowMs = 1_000_000;
          Date.now = () => nowMs;
          try {
            const limits = new Limits(
              { pointsPerMinute, minuteMs: 1_000, blockMs: 1 },
              false,
              new GithubClock(),
            );
            const through: { atMs: number; points: number }[] = [];
            for (const { gapMs, method } of calls) {
              nowMs += gapMs + 2;
              const points = method === "GET" ? 1 : 5;
              const lately = through
                .filter(({ atMs }) => atMs > nowMs - 1_000)
                .reduce((sum, one) => sum + one.points, 0);
              const counted = limits.count("installation 1", { method, path: "/x" }, "id");
              expect(counted.refusal === undefined).toBe(lately + points <= pointsPerMinute);
              if (counted.refusal === undefined) through.push({ atMs: nowMs, points });
              counted.done();
            }
          } finally {
            Date.now = realNow;
          }
        },
      ),
    );
  });

  it("GitHub's own numbers are those that it documents", () => {
    expect(githubLimits).toEqual({
      corePerHour: 5_000,
      registrationsPerHour: 10_000,
      pointsPerMinute: 900,
      contentPerMinute: 80,
      contentPerHour: 500,
      concurrent: 100,
    });
  });
});
