import { MigError } from "@mig/lifecycle";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { renderError } from "../src/listen/error.ts";
import { call, openTestListeners, type Reply, type TestListeners } from "./open-test-listeners.ts";

let mig: TestListeners;
let failure: unknown;
beforeAll(async () => {
  mig = await openTestListeners({
    flags: ["--dev"],
    desk: (real) => ({
      issueGrant: async (vmId, request) => {
        if (failure !== undefined) throw failure;
        return real.issueGrant(vmId, request);
      },
    }),
  });
});
afterAll(() => mig[Symbol.asyncDispose]());

function expectError(reply: Reply, status: number, code: string): void {
  expect(reply.body).toEqual({
    error: expect.objectContaining({ code, message: expect.any(String), category: expect.any(String) }),
  });
  expect(reply.status).toBe(status);
  expect(reply.headers.get("x-request-id")).toBe(reply.body.error.request_id);
  expect(reply.headers.get("cache-control")).toBe("no-store");
  expect(JSON.stringify(reply.body)).not.toMatch(/node_modules|\bat .*:\d+:\d+/);
}

const json = { "content-type": "application/json" };
const vm = "/api/v1/vms/vm-1";
test.each<[string, string, RequestInit, number, string]>([
  ["no such path", "/api/v1/nothing", {}, 404, "not_found"],
  ["no such VM", "/api/v1/vms/vm-unknown", {}, 404, "not_found"],
  ["wrong method", `${vm}/heartbeat`, {}, 405, "method_not_allowed"],
  ["no such thing to delete", `${vm}/commands`, { method: "DELETE" }, 405, "method_not_allowed"],
  ["not JSON", `${vm}/events`, { method: "POST", headers: json, body: "{" }, 400, "invalid_request"],
  ["nothing", `${vm}/events`, { method: "POST", headers: json }, 400, "invalid_request"],
  ["a list", `${vm}/events`, { method: "POST", headers: json, body: "[]" }, 400, "invalid_request"],
  ["no type", `${vm}/events`, { method: "POST", headers: json, body: "{}" }, 400, "invalid_request"],
  [
    "type is a number",
    `${vm}/events`,
    { method: "POST", headers: json, body: '{"type":1}' },
    400,
    "invalid_request",
  ],
  [
    "seq is a word",
    `${vm}/events`,
    { method: "POST", headers: json, body: '{"type":"a","seq":"x"}' },
    400,
    "invalid_request",
  ],
  [
    "seq is huge",
    `${vm}/events`,
    { method: "POST", headers: json, body: '{"type":"a","seq":1e300}' },
    400,
    "invalid_request",
  ],
  [
    "no events",
    `${vm}/events`,
    { method: "POST", headers: json, body: '{"events":[]}' },
    400,
    "invalid_request",
  ],
  [
    "type is a path",
    `${vm}/events`,
    { method: "POST", headers: json, body: '{"type":"../x"}' },
    422,
    "refused",
  ],
  [
    "another VM's event",
    `${vm}/events`,
    { method: "POST", headers: json, body: '{"type":"error","vm_id":"vm-2"}' },
    403,
    "vm_mismatch",
  ],
  [
    "health is text",
    `${vm}/heartbeat`,
    { method: "POST", headers: json, body: '{"vm_health":{"cpu_load":"x"}}' },
    400,
    "invalid_request",
  ],
  [
    "an unknown stage",
    `${vm}/commands/ack`,
    { method: "POST", headers: json, body: '{"command_id":"c","stage":"x"}' },
    400,
    "invalid_request",
  ],
  [
    "no command_id",
    `${vm}/commands/ack`,
    { method: "POST", headers: json, body: "{}" },
    400,
    "invalid_request",
  ],
  [
    "an unknown command",
    `${vm}/commands/c-1/ack`,
    { method: "POST", headers: json, body: "{}" },
    404,
    "not_found",
  ],
  [
    "an unknown order",
    `${vm}/commands`,
    { method: "POST", headers: json, body: '{"type":"explode"}' },
    422,
    "refused",
  ],
  [
    "an order good for ever",
    `${vm}/commands`,
    { method: "POST", headers: json, body: '{"type":"drain","expires_in":"99999999d"}' },
    400,
    "invalid_request",
  ],
  ["wait has no unit", `${vm}/commands?wait=25`, {}, 400, "invalid_request"],
  ["limit is 0", "/api/v1/vms?limit=0", {}, 400, "invalid_request"],
  ["limit is SQL", "/api/v1/vms?limit=1;--", {}, 400, "invalid_request"],
  ["a foreign cursor", "/api/v1/vms?cursor=abc", {}, 400, "invalid_request"],
  [
    "a form",
    `${vm}/events`,
    { method: "POST", body: new URLSearchParams({ type: "a" }) },
    415,
    "unsupported_media_type",
  ],
  ["text", `${vm}/events`, { method: "POST", body: "x" }, 415, "unsupported_media_type"],
  [
    "gzip",
    `${vm}/events`,
    { method: "POST", headers: { ...json, "content-encoding": "gzip" }, body: "x" },
    415,
    "unsupported_media_type",
  ],
])("%s", async (_, path, init, status, code) => {
  expectError(await call(`${mig.url}${path}`, init), status, code);
});

test("405 names the methods of the path", async () => {
  const reply = await call(`${mig.url}${vm}/commands`, { method: "PUT" });
  expect(reply.headers.get("allow")).toBe("GET, POST");
});

test("a body above the limit is 413, one at the limit is read", async () => {
  const big = (size: number) => ({ type: "error", vm_id: "vm-1", x: "a".repeat(size) });
  expectError(await call(`${mig.url}${vm}/events`, { json: big(1024 * 1024) }), 413, "payload_too_large");
  // Its data is above the limit for one event, which is told by its own code.
  expectError(await call(`${mig.url}${vm}/events`, { json: big(1000 * 1024) }), 422, "refused");
});

describe("what the desk says", () => {
  test.each([
    [new MigError("rate_limited", "slower", { retryAfterMs: 2_500 }), 429, "rate_limited", "3"],
    [new MigError("storage_unavailable", "the database is away"), 503, "storage_unavailable", "1"],
    [
      new MigError("github_rate_limited", "GitHub says wait", { retryAfterMs: 60_000 }),
      503,
      "github_rate_limited",
      "60",
    ],
    [new MigError("github_unauthorized", "GitHub refuses the App's key"), 502, "github_unauthorized", null],
    [new MigError("incarnation_lost", "written off"), 410, "incarnation_lost", null],
  ])("%s", async (error, status, code, retryAfter) => {
    failure = error;
    const reply = await call(`${mig.url}${vm}/registration-token`, { json: {} });
    failure = undefined;
    expectError(reply, status, code);
    expect(reply.headers.get("retry-after")).toBe(retryAfter);
  });

  test.each([
    new Error("password=hunter2"),
    new MigError("internal", "password=hunter2"),
    Object.assign(new Error("password=hunter2"), { statusCode: 500 }),
  ])("a failure of ours tells nothing", async (error) => {
    failure = error;
    const reply = await call(`${mig.url}${vm}/registration-token`, { json: {} });
    failure = undefined;
    expectError(reply, 500, "internal");
    expect(JSON.stringify(reply.body)).not.toContain("hunter2");
  });
});

test("every error has the one shape, retry hint included", () => {
  const { body, status } = renderError(new MigError("overloaded", "later", { retryAfterMs: 5 }), "r-1");
  expect(status).toBe(503);
  expect(body).toEqual({
    error: {
      code: "overloaded",
      message: "later",
      category: "transient",
      request_id: "r-1",
      retry_after_ms: 5,
    },
  });
});
