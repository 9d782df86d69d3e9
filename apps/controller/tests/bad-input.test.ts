import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { askGrpc, askHttp, grpcCases, httpCases, resetRapidly } from "./bad-input-cases.ts";
import { call, openTestListeners, type TestListeners } from "./open-test-listeners.ts";

/** What garbage.test.ts, ws-garbage.test.ts and http-errors.test.ts do not have of reliability-security §5.3. */
let mig: TestListeners;
beforeAll(async () => {
  mig = await openTestListeners({ flags: ["--dev", "--connection-timeout", "2s"] });
});
afterAll(() => mig[Symbol.asyncDispose]());
afterEach(async () => expect((await call(`${mig.url}/health`)).status).toBe(200));

test.each(httpCases)("$line $name → $status", async (one) => {
  const { status, heard } = await askHttp(mig.port, one);
  expect(status, heard.slice(0, 600)).toBe(one.status);
  expect(heard).toMatch(/x-request-id: /);
  expect(heard).toMatch(/cache-control: no-store/);
  expect(heard).not.toMatch(/access-control-|set-cookie|node_modules|\bat .*:\d+:\d+/i);
});

test.each(grpcCases)("$line $name → $code", async (one) => {
  expect([one.code].flat()).toContain(await askGrpc(mig.grpcPort, one));
});

test("G4 10,000 streams on one connection, each reset at once", () => resetRapidly(mig.grpcPort, 10_000));
