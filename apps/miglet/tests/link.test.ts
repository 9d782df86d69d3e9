import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer as createHttp2Server } from "node:http2";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pause, silentLog, waitFor } from "@mig/kit";
import type { Command, Heartbeat } from "@mig/protocol";
import { encodeControllerMessage } from "@mig/protocol/proto";
import { afterEach, expect, test } from "vitest";
import { createBearerToken } from "../src/link/bearer-token.ts";
import { type ChooseLinkSettings, type ChosenLink, createChosenLink } from "../src/link/choose-link.ts";
import type { LinkUp, Refusal } from "../src/link/link.ts";
import {
  accepted,
  friendly,
  httpCalls,
  quick,
  speaker,
  startGrpcLab,
  startHttpLab,
  vmEvent,
} from "./link-lab.ts";

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
  downs: string[];
  commands: Command[];
  refusals: Refusal[];
  link: ChosenLink;
}

function choose(settings: Partial<ChooseLinkSettings>): Seen {
  const seen: Omit<Seen, "link"> = { ups: [], downs: [], commands: [], refusals: [] };
  const link = createChosenLink(
    {
      channel: "auto",
      speaker,
      http: undefined,
      grpcEndpoint: undefined,
      log: silentLog,
      timing: quick,
      ...settings,
    },
    {
      onUp: (up) => void seen.ups.push(up),
      onDown: (reason) => void seen.downs.push(reason.message),
      onCommand: (command) => void seen.commands.push(command),
      onGoAway: () => {},
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

test("the stream carries connect first, then commands, heartbeats, events and answers, with the bearer token", async () => {
  const lab = keep(await startGrpcLab(friendly));
  const seen = choose({ grpcEndpoint: lab.endpoint, bearer: async () => "secret-token" });
  await waitFor("the link", () => seen.ups.length === 1);
  expect(lab.heard[0]).toMatchObject({
    kind: "connect",
    connect: { vmId: "vm-1", protocolVersion: 1, migletState: "ready" },
  });
  expect(lab.authorizations).toEqual(["Bearer secret-token"]);
  expect(seen.ups[0]).toMatchObject({ channel: "grpc", heartbeatIntervalMs: 15_000, epoch: 1 });
  expect(await seen.link.sendHeartbeat(beat)).toMatchObject({ nextIntervalMs: 5000 });
  const events = Array.from({ length: 200 }, (_, index) => vmEvent(index + 1));
  expect(await seen.link.sendEvents(events)).toMatchObject({ upToSeq: 200 });
  lab.streams[0]?.say({ kind: "command", command });
  await waitFor("a command", () => seen.commands.length === 1);
  expect(seen.commands[0]).toEqual(command);
  await seen.link.answer({ commandId: "c-1", stage: "received", success: true });
  await waitFor("an answer", () => lab.heard.some((message) => message.kind === "ack"));
});

test("a message of three mebibytes comes through flow control and one of five ends the stream", async () => {
  const lab = keep(await startGrpcLab(friendly));
  const seen = choose({ grpcEndpoint: lab.endpoint });
  await waitFor("the link", () => seen.ups.length === 1);
  const big = (bytes: number): Command => ({ ...command, parameters: { text: "x".repeat(bytes) } });
  // A string is in the message twice: typed map and object.
  lab.streams[0]?.say({ kind: "command", command: big(1.5 * 1024 * 1024) });
  await waitFor("a command", () => seen.commands.length === 1);
  lab.streams[0]?.say({ kind: "command", command: big(2.5 * 1024 * 1024) });
  await waitFor("the end of the link", () => seen.downs.length === 1);
  expect(seen.downs[0]).toMatch(/over the limit/);
});

test("a server that ends each stream at once meets a backoff, not a hot loop", async () => {
  const lab = keep(
    await startGrpcLab((message, stream) => {
      if (message.kind !== "connect") return;
      stream.say({ kind: "connect_ack", reply: accepted });
      stream.end(lab.streams.length % 2 === 0 ? undefined : 1, "CANCELLED");
    }),
  );
  const startedMs = performance.now();
  choose({ grpcEndpoint: lab.endpoint });
  await waitFor("streams", () => lab.streams.length >= 8);
  // Windows of 20, 40, 60, 60 … ms: eight streams need well over 100 ms.
  expect(performance.now() - startedMs).toBeGreaterThan(100);
});

test("a stream that ends with its token is opened again at once, unless it has hardly lived", async () => {
  const lab = keep(await startGrpcLab(friendly));
  const expire = (stream = lab.streams.at(-1)): void => {
    const goAway = { reason: "token_expired", reconnectAfterMs: 0, deadlineMs: 500 };
    stream?.say({ kind: "go_away", goAway });
    stream?.end();
  };
  // Whoever waits for the backoff waits for minutes.
  const slow = { ...quick, reconnectFirstMs: 6_000_000, reconnectCapMs: 6_000_000 };
  const old = choose({ grpcEndpoint: lab.endpoint, timing: { ...slow, stableMs: 0 } });
  for (const times of [1, 2, 3]) {
    await waitFor(`stream ${times}`, () => old.ups.length === times);
    expire();
  }
  await waitFor("the last stream", () => old.ups.length === 4);
  await old.link.close();
  const young = choose({ grpcEndpoint: lab.endpoint, timing: { ...slow, reconnectFirstMs: 300 } });
  const streams = lab.streams.length;
  const beganMs = performance.now();
  for (const times of [1, 2, 3, 4]) {
    await waitFor(`stream ${times}`, () => young.ups.length === times);
    expire();
  }
  expect([lab.streams.length - streams, performance.now() - beganMs > 600]).toEqual([4, true]);
});

test("a refused agent says so, tries again slowly and comes up when it is accepted", async () => {
  let refuses = true;
  const lab = keep(
    await startGrpcLab((message, stream) => {
      if (message.kind === "connect")
        stream.say({
          kind: "connect_ack",
          reply: { ...accepted, accepted: !refuses, message: "not in this pool" },
        });
    }),
  );
  const seen = choose({ grpcEndpoint: lab.endpoint });
  await waitFor("a refusal", () => seen.refusals.length > 0);
  expect(seen.refusals[0]).toMatchObject({ code: "controller_refused", message: "not in this pool" });
  refuses = false;
  await waitFor("the link", () => seen.ups.length === 1);
});

test("a heartbeat without an answer ends a half-open stream, and the next stream takes over", async () => {
  let answers = false;
  const lab = keep(
    await startGrpcLab((message, stream) => {
      if (message.kind !== "heartbeat" || answers) friendly(message, stream);
    }),
  );
  const seen = choose({ grpcEndpoint: lab.endpoint });
  await waitFor("the link", () => seen.ups.length === 1);
  await expect(seen.link.sendHeartbeat(beat)).rejects.toMatchObject({ code: "controller_unreachable" });
  answers = true;
  await waitFor("the link", () => seen.ups.length === 2);
  expect(await seen.link.sendHeartbeat(beat)).toBeDefined();
});

test("a controller from before MIG acknowledges by taking: events written are events sent", async () => {
  const lab = keep(
    await startGrpcLab((message, stream) => {
      if (message.kind === "connect")
        stream.say({
          kind: "connect_ack",
          reply: { ...accepted, protocolVersion: 0, heartbeatIntervalMs: 0 },
        });
    }),
  );
  const seen = choose({ grpcEndpoint: lab.endpoint });
  await waitFor("the link", () => seen.ups.length === 1);
  expect(await seen.link.sendEvents([vmEvent(1), vmEvent(2)])).toMatchObject({ upToSeq: 2 });
  expect(await seen.link.sendHeartbeat(beat)).toBeUndefined();
});

test("auto falls back to polling when gRPC cannot connect and climbs up again when it can", async () => {
  const http = keep(
    await startHttpLab(({ url }) => ({
      body: { commands: [], vm_id: "vm-1" },
      afterMs: url.includes("wait=0&") ? 0 : 100,
    })),
  );
  const probe = await startGrpcLab(friendly);
  await probe.close();
  const seen = choose({ grpcEndpoint: probe.endpoint, http: httpCalls(http.endpoint) });
  await waitFor("the link", () => seen.ups.length === 1);
  expect(seen.ups[0]?.channel).toBe("poll");
  keep(await startGrpcLab(friendly, probe.port));
  await waitFor("the link", () => seen.ups.length === 2);
  expect(seen.link.channel()).toBe("grpc");
  expect(seen.downs).toEqual([]);
});

test("polling delivers a command once while its answer is under way, and sends the answer by HTTP", async () => {
  let isAnswered = false;
  const http = keep(
    await startHttpLab(({ method, url }) => {
      if (url.endsWith("/commands/c-1/ack")) {
        isAnswered = true;
        return { body: {} };
      }
      const given = [
        { id: "c-1", type: "drain", command: "drain", parameters: {}, created_at: "2026-01-01T00:00:00Z" },
      ];
      return {
        body: { commands: isAnswered ? null : given },
        afterMs: method === "GET" && isAnswered ? 50 : 0,
      };
    }),
  );
  const seen = choose({
    channel: "poll",
    http: httpCalls(http.endpoint),
    timing: { ...quick, pollPauseMs: 1000 },
  });
  await waitFor("a command", () => seen.commands.length === 1);
  await seen.link.answer({ commandId: "c-1", stage: "result", success: true, result: { drained: true } });
  await waitFor("requests", () => http.requests.filter((one) => one.method === "GET").length >= 2);
  expect(seen.commands).toHaveLength(1);
  expect(http.requests[0]?.url).toBe(
    "/api/v1/vms/vm-1/commands?wait=0&incarnation=boot-install&miglet_state=ready&protocol_version=1",
  );
});

test("a lost incarnation is a refusal, by polling and by heartbeat", async () => {
  const gone = {
    status: 410,
    body: { error: { code: "incarnation_lost", message: "written off", category: "permanent" } },
  };
  const http = keep(await startHttpLab(() => gone));
  const seen = choose({ channel: "poll", http: httpCalls(http.endpoint) });
  await waitFor("a refusal", () => seen.refusals.length > 0);
  expect(seen.refusals[0]?.code).toBe("incarnation_lost");
  await expect(seen.link.sendHeartbeat(beat)).rejects.toMatchObject({ code: "incarnation_lost" });
});

test("an answer that nobody could take is sent when a channel opens", async () => {
  const probe = await startGrpcLab(friendly);
  await probe.close();
  const seen = choose({ channel: "grpc", grpcEndpoint: probe.endpoint });
  await seen.link.answer({ commandId: "c-9", stage: "received", success: true });
  await seen.link.answer({ commandId: "c-9", stage: "result", success: true });
  const lab = keep(await startGrpcLab(friendly, probe.port));
  await waitFor("an answer", () => lab.heard.some((message) => message.kind === "ack"));
  expect(lab.heard.filter((message) => message.kind === "ack")).toMatchObject([
    { answer: { commandId: "c-9", stage: "result" } },
  ]);
});

test.each([0, -5, 1e12])("a server whose hint is %d ms meets the backoff, not a hot loop", async (hintMs) => {
  const away = { error: { code: "overloaded", message: "", category: "transient", retry_after_ms: hintMs } };
  const http = keep(await startHttpLab(() => ({ status: 503, body: away })));
  choose({
    channel: "poll",
    http: httpCalls(http.endpoint),
    timing: { ...quick, reconnectFirstMs: 200, reconnectCapMs: 200 },
  });
  await waitFor("a request", () => http.requests.length >= 1);
  await pause(300);
  expect(http.requests.length).toBeLessThan(6);
});

test("a controller that repeats an answered command is asked slowly", async () => {
  const given = { id: "c-1", type: "drain", parameters: {}, created_at: "2026-01-01T00:00:00Z" };
  const http = keep(
    await startHttpLab(({ method }) => ({ body: method === "GET" ? { commands: [given] } : {} })),
  );
  const seen = choose({
    channel: "poll",
    http: httpCalls(http.endpoint),
    timing: { ...quick, pollPauseMs: 200 },
  });
  const answering = setInterval(() => {
    for (const one of seen.commands.splice(0))
      void seen.link.answer({ commandId: one.id, stage: "result", success: true });
  }, 1);
  closers.push(async () => clearInterval(answering));
  await waitFor("requests", () => http.requests.length >= 2);
  await pause(500);
  expect(http.requests.filter(({ method }) => method === "GET").length).toBeLessThan(8);
});

test("an answer that failed while polling went on is sent again by itself; one that nobody wants is not", async () => {
  let isAway = true;
  const http = keep(
    await startHttpLab(({ method, url }) => {
      if (method === "GET") return { body: { commands: [] }, afterMs: url.includes("wait=0&") ? 0 : 100 };
      if (url.includes("unknown")) return { status: 404 };
      return { status: isAway ? 503 : 200 };
    }),
  );
  const seen = choose({ channel: "poll", http: httpCalls(http.endpoint) });
  await waitFor("the link", () => seen.ups.length === 1);
  await seen.link.answer({ commandId: "unknown", stage: "result", success: true });
  await seen.link.answer({ commandId: "c-1", stage: "result", success: true });
  isAway = false;
  const answers = (id: string) => http.requests.filter(({ url }) => url.endsWith(`/${id}/ack`)).length;
  await waitFor("the second try", () => answers("c-1") === 2);
  expect(answers("unknown")).toBe(1);
  expect(seen.downs).toEqual([]);
});

test("a peer that stops reading is noticed by events and by heartbeats that cannot be sent", async () => {
  const server = createHttp2Server();
  server.on("stream", (stream) => {
    stream.respond({ ":status": 200, "content-type": "application/grpc" });
    const bytes = encodeControllerMessage({ kind: "connect_ack", reply: accepted });
    const head = Buffer.alloc(5);
    head.writeUInt32BE(bytes.length, 1);
    stream.write(Buffer.concat([head, bytes]));
    stream.on("error", () => {});
  });
  server.on("session", (session) => session.on("error", () => {}));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(async () => void server.close());
  const { port } = server.address() as AddressInfo;
  const seen = choose({ channel: "grpc", grpcEndpoint: `127.0.0.1:${port}` });
  await waitFor("the link", () => seen.ups.length === 1);
  const large = Array.from({ length: 20 }, (_, n) => ({
    ...vmEvent(n + 1),
    data: { text: "x".repeat(20_000) },
  }));
  const events = seen.link.sendEvents(large).then(
    () => "taken",
    () => "failed",
  );
  await expect(seen.link.sendHeartbeat(beat)).rejects.toMatchObject({ code: "controller_unreachable" });
  expect(await events).toBe("failed");
  await waitFor("the end of the link", () => seen.downs.length === 1);
});

test("a token file that holds no token is said, and ends nothing", async () => {
  const folder = await mkdtemp(join(tmpdir(), "mig-token-"));
  closers.push(() => rm(folder, { recursive: true, force: true }));
  const path = join(folder, "token");
  const bearer = createBearerToken(path);
  for (const content of ["", "one\ntwo", "tökén"]) {
    await writeFile(path, content);
    await expect(bearer()).rejects.toMatchObject({ code: "settings_invalid" });
  }
  await writeFile(path, "good-token\n");
  expect(await bearer()).toBe("good-token");
});
