import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { silentLog, waitFor } from "@mig/kit";
import type { MigError } from "@mig/lifecycle";
import type { Command, GoAway } from "@mig/protocol";
import { afterEach, describe, expect, test } from "vitest";
import { type ChosenLink, createChosenLink } from "../src/link/choose-link.ts";
import type { LinkUp, Refusal } from "../src/link/link.ts";
import { createEventReader, type StreamEvent } from "../src/link/sse-events.ts";
import { httpCalls, quick, speaker, vmEvent } from "./link-lab.ts";
import { startProxy } from "./link-proxy.ts";

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});
const keep = <T extends { close(): Promise<void> }>(one: T): T => {
  closers.push(() => one.close());
  return one;
};

interface Lab {
  port: number;
  endpoint: string;
  streams: ServerResponse[];
  requests: IncomingMessage[];
  posts: string[];
  close(): Promise<void>;
}

const greeting = `event: connect_ack\ndata: ${JSON.stringify({ accepted: true, protocol_version: 1, epoch: 7, heartbeat_interval_ms: 15_000 })}\n\n`;
const command = (id: string): string =>
  `event: command\nid: ${id}\ndata: ${JSON.stringify({ id, type: "drain", parameters: { grace: 5 } })}\n\n`;
const open = (response: ServerResponse): void => {
  response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
  response.write(greeting);
};

async function startLab(onStream: (response: ServerResponse) => void = open): Promise<Lab> {
  const server = createServer((request, response) => {
    if (request.url?.includes("/commands/stream") === true) {
      lab.requests.push(request);
      lab.streams.push(response);
      return onStream(response);
    }
    request.resume().on("end", () => {
      lab.posts.push(request.url ?? "");
      response.writeHead(200, { "content-type": "application/json" });
      response.end(JSON.stringify({ up_to_seq: 1, next_interval_ms: 5_000 }));
    });
  });
  const lab: Lab = {
    port: 0,
    endpoint: "",
    streams: [],
    requests: [],
    posts: [],
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  lab.port = (server.address() as AddressInfo).port;
  lab.endpoint = `http://127.0.0.1:${lab.port}`;
  return keep(lab);
}

interface Seen {
  ups: LinkUp[];
  downs: MigError[];
  commands: Command[];
  refusals: Refusal[];
  goAways: GoAway[];
  warnings: string[];
  link: ChosenLink;
}

function choose(endpoint: string, bearer?: () => Promise<string>): Seen {
  const http = httpCalls(endpoint);
  const seen: Omit<Seen, "link"> = {
    ups: [],
    downs: [],
    commands: [],
    refusals: [],
    goAways: [],
    warnings: [],
  };
  const warn = (fields: { error?: unknown }): void => void seen.warnings.push(String(fields.error));
  const link = createChosenLink(
    {
      channel: "sse",
      speaker,
      http,
      grpcEndpoint: undefined,
      httpEndpoint: endpoint,
      bearer,
      log: { ...silentLog, warn },
      timing: { ...quick, connectMs: 500, streamSilentMs: 300 },
    },
    {
      onUp: (up) => void seen.ups.push(up),
      onDown: (reason) => void seen.downs.push(reason),
      onCommand: (one) => void seen.commands.push(one),
      onGoAway: (goAway) => void seen.goAways.push(goAway),
      onRefused: (refusal) => void seen.refusals.push(refusal),
    },
  );
  link.open();
  closers.push(async () => {
    await link.close();
    http.close();
  });
  return { ...seen, link };
}

test("commands come down the stream, everything else goes by HTTP, with the bearer token", async () => {
  const lab = await startLab();
  const seen = choose(lab.endpoint, async () => "secret-token");
  await waitFor("the link", () => seen.ups.length === 1);
  expect(lab.requests[0]?.url).toBe(
    "/api/v1/vms/vm-1/commands/stream?pool_id=pool-1&version=0.1.0&incarnation=boot-install&miglet_state=ready&protocol_version=1",
  );
  expect(lab.requests[0]?.headers).toMatchObject({
    accept: "text/event-stream",
    authorization: "Bearer secret-token",
  });
  expect(seen.ups[0]).toMatchObject({ channel: "sse", epoch: 7, heartbeatIntervalMs: 15_000 });
  lab.streams[0]?.write(command("c-1"));
  await waitFor("a command", () => seen.commands.length === 1);
  expect(seen.commands[0]).toMatchObject({ id: "c-1", type: "drain", parameters: { grace: 5 } });
  await seen.link.answer({ commandId: "c-1", stage: "received", success: true });
  await seen.link.sendEvents([vmEvent(1)]);
  await seen.link.sendHeartbeat({ vmId: "vm-1", poolId: "pool-1", sentAtMs: 1 });
  expect(lab.posts).toEqual(
    ["commands/c-1/ack", "events", "heartbeat"].map((path) => `/api/v1/vms/vm-1/${path}`),
  );
});

test("the next stream names the last command that was seen, and go-away is obeyed", async () => {
  const lab = await startLab();
  const seen = choose(lab.endpoint);
  await waitFor("the link", () => seen.ups.length === 1);
  expect(lab.requests[0]?.headers["last-event-id"]).toBeUndefined();
  lab.streams[0]?.write(command("c-1") + command("c-2"));
  const startedMs = performance.now();
  lab.streams[0]?.end(
    `event: go_away\ndata: ${JSON.stringify({ reason: "shutting_down", reconnect_after_ms: 300, deadline_ms: 0 })}\n\n`,
  );
  await waitFor("the next link", () => seen.ups.length === 2);
  expect(performance.now() - startedMs).toBeGreaterThanOrEqual(295);
  expect(seen.goAways).toMatchObject([{ reason: "shutting_down" }]);
  expect(seen.commands.map(({ id }) => id)).toEqual(["c-1", "c-2"]);
  expect(lab.requests[1]?.headers["last-event-id"]).toBe("c-2");
});

test("comments keep a quiet stream; without a byte it is given up and opened again", async () => {
  const lab = await startLab();
  const proxy = keep(await startProxy(lab.port));
  const seen = choose(`http://127.0.0.1:${proxy.port}`);
  await waitFor("the link", () => seen.ups.length === 1);
  const beating = setInterval(() => lab.streams.at(-1)?.write(": keep-alive\n\n"), 50);
  closers.push(async () => clearInterval(beating));
  const startedMs = performance.now();
  await waitFor("two silences' time", () => performance.now() - startedMs > 700);
  expect(seen.downs).toEqual([]);
  proxy.swallow("down");
  await waitFor("the end of the link", () => seen.downs.length === 1);
  expect(seen.downs[0]?.message).toMatch(/nothing came for 300 ms/);
  proxy.heal();
  await waitFor("the next link", () => seen.ups.length === 2);
});

test("what is no message is skipped", async () => {
  const lab = await startLab();
  const seen = choose(lab.endpoint);
  await waitFor("the link", () => seen.ups.length === 1);
  for (const data of ["{", "1", "null", "[]", "{}"])
    lab.streams[0]?.write(`event: command\ndata: ${data}\n\n`);
  lab.streams[0]?.write(`event: news\ndata: {}\n\n${command("c-1")}`);
  await waitFor("a command", () => seen.commands.length === 1);
  expect(seen.downs).toEqual([]);
});

describe("a server that opens no event stream", () => {
  const page =
    (status: number, text: string, type = "text/html") =>
    (response: ServerResponse) =>
      void response.writeHead(status, { "content-type": type }).end(text);
  const error = (code: string): string =>
    JSON.stringify({ error: { code, message: "words", category: "x" } });

  test.each<[string, (response: ServerResponse) => void, RegExp]>([
    ["no such path", page(404, "404 page not found"), /HTTP 404 instead of opening an event stream/],
    ["a proxy's page", page(403, "<html>"), /HTTP 403 instead/],
    ["an answer to a plain GET", page(200, '{"commands":[]}', "application/json"), /HTTP 200 instead/],
    [
      "a stream that never greets",
      (response) => void response.writeHead(200, { "content-type": "text/event-stream" }).flushHeaders(),
      /within 500 ms|for 300 ms/,
    ],
    ["a broken connection", (response) => void response.destroy(), /broke/],
    [
      "an endless line",
      (response) => {
        response.writeHead(200, { "content-type": "text/event-stream" });
        response.write(`data: ${"x".repeat(5_000_000)}`);
      },
      /over the limit/,
    ],
  ])("%s is no refusal", async (_, answer, words) => {
    const lab = await startLab(answer);
    const seen = choose(lab.endpoint);
    await waitFor("a failure", () => seen.warnings.length > 0);
    expect(seen.warnings[0]).toMatch(words);
    await waitFor("another try", () => lab.requests.length >= 2);
    expect(seen.refusals).toEqual([]);
  });

  test.each(["unauthenticated", "forbidden", "incarnation_lost"])("%s is one", async (code) => {
    const lab = await startLab(page(401, error(code), "application/json"));
    const seen = choose(lab.endpoint);
    await waitFor("a refusal", () => seen.refusals.length > 0);
    expect(seen.refusals[0]).toMatchObject({ code, message: expect.stringContaining("words") });
  });
});

test("events are read as the standard says, however they are cut", () => {
  const text =
    "\uFEFF: comment\nretry: 5\n\ndata\n\nevent: a\r\ndata: 1\r\ndata:  2\r\nid: x\r\n\r\ndata: é\r\rid\ndata: 3\n\nevent: lost\n\n";
  const wanted: StreamEvent[] = [
    { event: "message", data: "", id: "" },
    { event: "a", data: "1\n 2", id: "x" },
    { event: "message", data: "é", id: "x" },
    { event: "message", data: "3", id: "" },
  ];
  for (let size = 1; size <= text.length; size += 1) {
    const events: StreamEvent[] = [];
    const read = createEventReader((event) => void events.push(event));
    for (let at = 0; at < text.length; at += size) expect(read(text.slice(at, at + size))).toBeUndefined();
    expect(events).toEqual(wanted);
  }
});
