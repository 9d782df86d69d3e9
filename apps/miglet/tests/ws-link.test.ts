import { silentLog, waitFor } from "@mig/kit";
import type { MigError } from "@mig/lifecycle";
import type { Command, GoAway, Heartbeat } from "@mig/protocol";
import { afterEach, describe, expect, test } from "vitest";
import { type ChooseLinkSettings, type ChosenLink, createChosenLink } from "../src/link/choose-link.ts";
import type { LinkUp, Refusal } from "../src/link/link.ts";
import { accepted, quick, speaker, vmEvent } from "./link-lab.ts";
import { type Direction, startProxy } from "./link-proxy.ts";
import { acceptOf, friendlyWs, serverFrame, startWsLab } from "./link-ws-lab.ts";

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});
const keep = <T extends { close(): Promise<void> }>(one: T): T => {
  closers.push(() => one.close());
  return one;
};

interface Seen {
  ups: LinkUp[];
  downs: MigError[];
  commands: Command[];
  refusals: Refusal[];
  goAways: GoAway[];
  link: ChosenLink;
}

function choose(httpEndpoint: string, settings: Partial<ChooseLinkSettings> = {}): Seen {
  const seen: Omit<Seen, "link"> = { ups: [], downs: [], commands: [], refusals: [], goAways: [] };
  const link = createChosenLink(
    {
      channel: "websocket",
      speaker,
      http: undefined,
      grpcEndpoint: undefined,
      httpEndpoint,
      log: silentLog,
      timing: quick,
      ...settings,
    },
    {
      onUp: (up) => void seen.ups.push(up),
      onDown: (reason) => void seen.downs.push(reason),
      onCommand: (command) => void seen.commands.push(command),
      onGoAway: (goAway) => void seen.goAways.push(goAway),
      onRefused: (refusal) => void seen.refusals.push(refusal),
    },
  );
  link.open();
  return { ...seen, link: keep(link) };
}

const beat: Heartbeat = { vmId: "vm-1", poolId: "pool-1", sentAtMs: 1 };
const command: Command = {
  id: "c-1",
  type: "drain",
  parameters: { grace: 5 },
  createdAtMs: 1000,
  attempt: 1,
};

test("the socket carries connect first, then commands, heartbeats, events and answers, with the bearer token", async () => {
  const lab = keep(await startWsLab());
  const seen = choose(`${lab.endpoint}/below/`, { bearer: async () => "secret-token" });
  await waitFor("the link", () => seen.ups.length === 1);
  expect(lab.heads[0]).toMatch(/^GET \/below\/api\/v1\/vms\/vm-1\/commands\/ws HTTP\/1\.1\r\n/);
  expect(lab.heads[0]).toContain("\r\nAuthorization: Bearer secret-token");
  expect(lab.heard[0]).toMatchObject({
    kind: "connect",
    connect: { vmId: "vm-1", protocolVersion: 1, migletState: "ready" },
  });
  expect(seen.ups[0]).toMatchObject({ channel: "websocket", heartbeatIntervalMs: 15_000, epoch: 1 });
  expect(await seen.link.sendHeartbeat(beat)).toMatchObject({ nextIntervalMs: 5000 });
  const framesBefore = lab.frames.length;
  const events = Array.from({ length: 500 }, (_, index) => vmEvent(index + 1));
  expect(await seen.link.sendEvents(events)).toMatchObject({ upToSeq: 500 });
  expect(lab.heard.flatMap((one) => (one.kind === "event" ? [one.event.seq] : []))).toEqual(
    events.map(({ seq }) => seq),
  );
  // A controller takes a hundred frames a second.
  expect(lab.frames.length - framesBefore).toBeLessThan(20);
  lab.streams[0]?.say({ kind: "command", command });
  await waitFor("a command", () => seen.commands.length === 1);
  expect(seen.commands[0]).toEqual(command);
  await seen.link.answer({ commandId: "c-1", stage: "received", success: true });
  await waitFor("an answer", () => lab.heard.some((message) => message.kind === "ack"));
  await seen.link.close();
  await waitFor("a proper close", () => lab.frames.at(-1)?.opcode === 8);
});

test("pings are answered, pieces are put together, and what is no message is skipped", async () => {
  const lab = keep(await startWsLab());
  const seen = choose(lab.endpoint);
  await waitFor("the link", () => seen.ups.length === 1);
  const stream = lab.streams[0];
  stream?.sayBytes(serverFrame(9, "are you there"));
  await waitFor("a pong", () =>
    lab.frames.some(({ opcode, payload }) => opcode === 10 && payload.toString() === "are you there"),
  );
  for (const text of ["{", "1", "{}", '{"kind":"command"}', '{"kind":"something new"}'])
    stream?.sayBytes(serverFrame(1, text));
  const text = JSON.stringify({ id: "c-2", type: "drain", parameters: { text: "é".repeat(1_000_000) } });
  const bytes = Buffer.from(text);
  stream?.sayBytes(serverFrame(1, bytes.subarray(0, 1), false));
  stream?.sayBytes(serverFrame(9, "in between"));
  stream?.sayBytes(serverFrame(0, bytes.subarray(1, 700_001), false));
  stream?.sayBytes(serverFrame(0, bytes.subarray(700_001)));
  await waitFor("the command", () => seen.commands.length === 1);
  expect(seen.commands[0]?.parameters["text"]).toHaveLength(1_000_000);
  expect(seen.downs).toEqual([]);
});

describe("frames that break the protocol end the link, and the next one opens", () => {
  const oversize = Buffer.from([0x81, 127, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff]);
  test.each<[string, Buffer, RegExp]>([
    ["masked", Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x7b, 0x7d]), /masked/],
    ["a reserved bit", Buffer.from([0xc1, 2, 0x7b, 0x7d]), /extension/],
    ["an unknown kind", Buffer.from([0x83, 0]), /unknown kind/],
    ["binary", serverFrame(2, "{}"), /binary/],
    ["a continuation of nothing", serverFrame(0, "{}"), /out of order/],
    [
      "a message in the middle of another",
      Buffer.concat([serverFrame(1, "{", false), serverFrame(1, "{}")]),
      /out of order/,
    ],
    ["a ping in pieces", serverFrame(9, "", false), /control frame/],
    ["2 GB", oversize, /over the limit/],
    ["not UTF-8", serverFrame(1, Buffer.from([0xff])), /UTF-8/],
    [
      "too many pieces",
      Buffer.concat([
        serverFrame(1, "[", false),
        ...Array.from({ length: 10_001 }, () => serverFrame(0, "", false)),
      ]),
      /over the limit/,
    ],
  ])("%s", async (_, bytes, words) => {
    const lab = keep(await startWsLab());
    const seen = choose(lab.endpoint);
    await waitFor("the link", () => seen.ups.length === 1);
    lab.streams[0]?.sayBytes(bytes);
    await waitFor("the end of the link", () => seen.downs.length === 1);
    expect(seen.downs[0]).toMatchObject({
      code: "controller_unreachable",
      message: expect.stringMatching(words),
    });
    await waitFor("the next link", () => seen.ups.length === 2);
  });
});

describe("a server that does not open a WebSocket", () => {
  const http = (status: string, body: string, more = ""): string =>
    `HTTP/1.1 ${status}\r\nContent-Length: ${body.length}\r\n${more}\r\n${body}`;
  const error = (code: string): string =>
    JSON.stringify({ error: { code, message: "words", category: "x" } });
  const upgraded = (head: string, more: string): string =>
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ${acceptOf(head)}${more}\r\n\r\n`;

  test.each<[string, (head: string) => string, RegExp]>([
    ["no such path", () => http("404 Not Found", "404 page not found"), /HTTP 404 instead of/],
    ["a proxy's page", () => http("403 Forbidden", "<html>"), /HTTP 403 instead of/],
    ["an answer to a plain GET", () => http("200 OK", '{"commands":[]}'), /HTTP 200 instead of/],
    ["a redirect", () => http("302 Found", "", "Location: https://elsewhere/\r\n"), /HTTP 302 instead of/],
    ["another accept", () => upgraded("", "\r\nSec-WebSocket-Protocol: mig.v1"), /mig\.v1/],
    ["no subprotocol", (head) => upgraded(head, ""), /mig\.v1/],
    ["no HTTP", () => "SSH-2.0-OpenSSH_9.2\r\n", /not HTTP/],
    ["nothing", () => "", /nothing before/],
    ["a head without an end", () => `HTTP/1.1 101 ${"x".repeat(40_000)}`, /not HTTP/],
  ])("%s is no refusal", async (_, answer, words) => {
    const lines: string[] = [];
    const log = {
      ...silentLog,
      warn: (fields: { error?: unknown }) => void lines.push(String(fields.error)),
    };
    const lab = keep(await startWsLab(friendlyWs, { answer }));
    const seen = choose(lab.endpoint, { log });
    await waitFor("a failure", () => lines.length > 0);
    expect(lines[0]).toMatch(words);
    await waitFor("another try", () => lab.heads.length >= 2);
    expect(seen.refusals).toEqual([]);
  });

  test.each(["unauthenticated", "forbidden", "incarnation_lost"])("%s is one", async (code) => {
    const lab = keep(await startWsLab(friendlyWs, { answer: () => http("401 X", error(code)) }));
    const seen = choose(lab.endpoint);
    await waitFor("a refusal", () => seen.refusals.length > 0);
    expect(seen.refusals[0]).toMatchObject({ code, message: expect.stringContaining("words") });
  });
});

test.each([
  [4401, "unauthenticated"],
  [4403, "forbidden"],
  [4410, "incarnation_lost"],
])("close code %d is a refusal: %s", async (closeCode, code) => {
  const lab = keep(await startWsLab());
  const seen = choose(lab.endpoint);
  await waitFor("the link", () => seen.ups.length === 1);
  lab.streams[0]?.close(closeCode, "because");
  await waitFor("a refusal", () => seen.refusals.length > 0);
  expect(seen.refusals[0]).toMatchObject({ code, message: expect.stringContaining("because") });
});

test("go-away is told, its hint is kept, and the link comes back", async () => {
  const lab = keep(await startWsLab());
  const seen = choose(lab.endpoint);
  await waitFor("the link", () => seen.ups.length === 1);
  const startedMs = performance.now();
  lab.streams[0]?.say({
    kind: "go_away",
    goAway: { reason: "shutting_down", reconnectAfterMs: 300, deadlineMs: 0 },
  });
  lab.streams[0]?.close(1001, "the controller stops");
  await waitFor("the next link", () => seen.ups.length === 2);
  expect(performance.now() - startedMs).toBeGreaterThanOrEqual(295);
  expect(seen.goAways).toMatchObject([{ reason: "shutting_down" }]);
});

test("one that refuses the connect is heard", async () => {
  const lab = keep(
    await startWsLab((message, stream) => {
      if (message.kind !== "connect") return;
      stream.say({
        kind: "connect_ack",
        reply: { ...accepted, accepted: false, message: "not in this pool" },
      });
      stream.close(4409, "not in this pool");
    }),
  );
  const seen = choose(lab.endpoint);
  await waitFor("a refusal", () => seen.refusals.length > 0);
  expect(seen.refusals[0]).toMatchObject({ code: "controller_refused", message: "not in this pool" });
});

describe("a connection that carries nothing any more", () => {
  test.each<[Direction[]]>([[["up", "down"]], [["up"]], [["down"]]])("%j is noticed", async (directions) => {
    const lab = keep(await startWsLab());
    const proxy = keep(await startProxy(lab.port));
    const seen = choose(`http://127.0.0.1:${proxy.port}`, { timing: { ...quick, connectMs: 300 } });
    await waitFor("the link", () => seen.ups.length === 1);
    proxy.swallow(...directions);
    await expect(seen.link.sendHeartbeat(beat)).rejects.toMatchObject({ code: "controller_unreachable" });
    expect(seen.downs[0]?.message).toMatch(/not answered within 200 ms/);
    proxy.heal();
    await waitFor("the link", () => seen.ups.length >= 2);
    expect(await seen.link.sendHeartbeat(beat)).toBeDefined();
  });

  test("a peer that stops reading is noticed by events and by heartbeats that cannot be sent", async () => {
    const lab = keep(await startWsLab());
    const seen = choose(lab.endpoint);
    await waitFor("the link", () => seen.ups.length === 1);
    lab.streams[0]?.pause();
    const large = Array.from({ length: 500 }, (_, n) => ({
      ...vmEvent(n + 1),
      data: { text: "x".repeat(50_000) },
    }));
    const events = seen.link.sendEvents(large).then(
      () => "taken",
      () => "failed",
    );
    await expect(seen.link.sendHeartbeat(beat)).rejects.toMatchObject({ code: "controller_unreachable" });
    expect(await events).toBe("failed");
    await waitFor("the next link", () => seen.ups.length === 2);
  });
});
