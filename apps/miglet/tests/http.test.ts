import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { createBearerToken } from "../src/link/bearer-token.ts";
import { createHttpClient } from "../src/link/http-request.ts";
import { type HttpReply, httpCalls, startHttpLab, vmEvent } from "./link-lab.ts";

const closers: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function serve(answer: Parameters<typeof startHttpLab>[0]) {
  const lab = await startHttpLab(answer);
  const client = createHttpClient({ endpoint: `${lab.endpoint}/base/` });
  closers.push(lab.close, () => client.close());
  return { lab, client };
}

const get = { method: "GET", path: "/x", timeoutMs: 500 } as const;

test.each<[string, HttpReply, Record<string, unknown>]>([
  [
    "our error body",
    { status: 503, body: { error: { code: "overloaded", message: "later", retry_after_ms: 1500 } } },
    { code: "overloaded", retryAfterMs: 1500 },
  ],
  [
    "Retry-After",
    { status: 429, headers: { "retry-after": "2" }, body: "slow down" },
    { code: "rate_limited", retryAfterMs: 2000 },
  ],
  [
    "an unknown code",
    { status: 500, body: { error: { code: "surprise", message: "m" } } },
    { code: "controller_unreachable" },
  ],
  ["no permission", { status: 403 }, { code: "forbidden" }],
  ["not JSON", { body: "<html>" }, { code: "controller_unreachable" }],
  ["two mebibytes", { body: "x".repeat(2 * 1024 * 1024) }, { code: "payload_too_large" }],
  ["no answer in time", { afterMs: 1500 }, { code: "controller_unreachable" }],
  [
    "another host",
    { status: 301, headers: { location: "http://other.invalid/" } },
    { code: "controller_refused" },
  ],
])("an answer with %s becomes the right error", async (_name, reply, error) => {
  const { client } = await serve(() => reply);
  await expect(client.call(get)).rejects.toMatchObject(error);
});

test("a redirect within the host is followed with method and body, and the endpoint's path is kept", async () => {
  const { lab, client } = await serve(({ url }) =>
    url === "/base/x" ? { status: 301, headers: { location: "/base/y" } } : { body: { ok: true } },
  );
  expect(await client.call({ ...get, method: "POST", body: { a: 1 } })).toEqual({ ok: true });
  expect(lab.requests.map((one) => `${one.method} ${one.url} ${one.body}`)).toEqual([
    'POST /base/x {"a":1}',
    'POST /base/y {"a":1}',
  ]);
});

test("the token file is read again when it changes", async () => {
  const directory = await mkdtemp(join(tmpdir(), "mig-token-"));
  closers.push(() => rm(directory, { recursive: true, force: true }));
  const path = join(directory, "token");
  await writeFile(path, "first-token\n");
  const bearer = createBearerToken(path);
  expect(await bearer()).toBe("first-token");
  await writeFile(path, "second-token-longer\n");
  expect(await bearer()).toBe("second-token-longer");
  await rm(path);
  expect(await bearer()).toBe("second-token-longer");
  await expect(createBearerToken(join(directory, "none"))()).rejects.toMatchObject({
    code: "settings_invalid",
  });
});

test("a controller from before MIG gets one event at a time in the seed's form", async () => {
  const { lab } = await serve(() => ({ body: { status: "acknowledged", acknowledged: true } }));
  const calls = httpCalls(lab.endpoint);
  closers.push(() => calls.close());
  expect(await calls.postEvents([vmEvent(5), vmEvent(6)])).toMatchObject({ upToSeq: 4 });
  expect(await calls.postEvents([vmEvent(5), vmEvent(6)])).toMatchObject({ upToSeq: 5 });
  expect(JSON.parse(lab.requests[1]?.body ?? "")).toMatchObject({
    type: "job_heartbeat",
    vm_id: "vm-1",
    n: 5,
  });
});
