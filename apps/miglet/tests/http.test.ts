import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { waitFor } from "@mig/kit";
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

test("calls share one kept-alive connection, errors and redirects included", async () => {
  let n = 0;
  const { lab, client } = await serve(({ url }) => {
    n += 1;
    if (url.endsWith("/y")) return { body: { ok: true } };
    if (n % 5 === 0) return { status: 302, headers: { location: "/base/y" } };
    return n % 2 === 0 ? { body: { ok: true } } : { status: 503, body: "x".repeat(100_000) };
  });
  for (let call = 0; call < 40; call += 1) await client.call(get).catch(() => {});
  expect(lab.requests.length).toBeGreaterThanOrEqual(40);
  expect(lab.connections()).toBe(1);
});

test("a kept connection that the server has closed costs one more try, not the call; a server that always does, an error", async () => {
  const bodies: string[] = [];
  let isMean = false;
  const server = createServer((socket) => {
    let answered = 0;
    socket.on("error", () => {});
    socket.on("data", (bytes) => {
      if (isMean || answered === 1) return socket.destroy();
      answered += 1;
      bodies.push(bytes.toString().split("\r\n\r\n")[1] ?? "");
      socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(() => new Promise((resolve) => server.close(() => resolve())));
  const client = createHttpClient({ endpoint: `127.0.0.1:${(server.address() as AddressInfo).port}` });
  closers.push(() => client.close());
  const post = (n: number): Promise<unknown> => client.call({ ...get, method: "POST", body: { n } });
  await post(1);
  await post(2);
  expect(bodies).toEqual(['{"n":1}', '{"n":2}']);
  isMean = true;
  await expect(post(3)).rejects.toMatchObject({ code: "controller_unreachable" });
});

test("a call that is given up ends at once, and so does one that never began", async () => {
  const { lab, client } = await serve(() => ({ afterMs: 400 }));
  const giveUp = new AbortController();
  const call = client.call({ ...get, signal: giveUp.signal });
  await waitFor("the request", () => lab.requests.length === 1);
  giveUp.abort();
  await expect(call).rejects.toMatchObject({ message: expect.stringMatching(/given up/) });
  await expect(client.call({ ...get, signal: giveUp.signal })).rejects.toMatchObject({
    message: expect.stringMatching(/given up/),
  });
  expect(lab.requests).toHaveLength(1);
});
