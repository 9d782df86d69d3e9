import { createServer as createHttpServer, type ServerResponse } from "node:http";
import { createServer as createHttp2Server, type Http2Server, type ServerHttp2Stream } from "node:http2";
import { type AddressInfo, createServer as createTcpServer, type Server, type Socket } from "node:net";
import { silentLog, waitFor } from "@mig/kit";
import type { MigError } from "@mig/lifecycle";
import type { GoAway, Heartbeat } from "@mig/protocol";
import { encodeControllerMessage } from "@mig/protocol/proto";
import { afterEach, describe, expect, test } from "vitest";
import { type ChooseLinkSettings, type ChosenLink, createChosenLink } from "../src/link/choose-link.ts";
import { frameOf } from "../src/link/grpc-frames.ts";
import { createHttpClient } from "../src/link/http-request.ts";
import type { LinkUp } from "../src/link/link.ts";
import { accepted, friendly, httpCalls, quick, speaker, startGrpcLab, startHttpLab } from "./link-lab.ts";
import { type Direction, startProxy } from "./link-proxy.ts";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});
const keep = <T extends { close(): unknown }>(one: T): T => {
  closers.push(() => one.close());
  return one;
};
const listen = async (server: Server | Http2Server): Promise<number> => {
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(() => {
    for (const socket of sockets) socket.destroy();
    return new Promise((resolve) => server.close(resolve));
  });
  return (server.address() as AddressInfo).port;
};

interface Seen {
  ups: LinkUp[];
  downs: MigError[];
  link: ChosenLink;
}
function choose(settings: Partial<ChooseLinkSettings>): Seen {
  const seen: Omit<Seen, "link"> = { ups: [], downs: [] };
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
      onDown: (reason) => void seen.downs.push(reason),
      onCommand: () => {},
      onGoAway: () => {},
      onRefused: () => {},
    },
  );
  link.open();
  return { ...seen, link: keep(link) };
}
const beat: Heartbeat = { vmId: "vm-1", poolId: "pool-1", sentAtMs: 1 };
const tookMs = async (work: Promise<unknown>): Promise<number> => {
  const startedMs = performance.now();
  await work.catch(() => {});
  return performance.now() - startedMs;
};
const polls = ({ url }: { url: string }) => ({
  body: { commands: [], next_interval_ms: 5000 },
  afterMs: url.includes("wait=0.2s") || url.includes("wait=200ms") ? 100 : 0,
});

describe("a connection that carries nothing any more", () => {
  test.each<Direction[][]>([[["up", "down"]], [["up"]], [["down"]]])(
    "%j: the heartbeat notices, goes by HTTP, polling takes over, and gRPC comes back",
    async (directions) => {
      const lab = keep(await startGrpcLab(friendly));
      const http = keep(await startHttpLab(polls));
      const proxy = keep(await startProxy(lab.port));
      const seen = choose({
        grpcEndpoint: `127.0.0.1:${proxy.port}`,
        http: httpCalls(http.endpoint),
        timing: { ...quick, connectMs: 300 },
      });
      await waitFor("the link", () => seen.ups.length === 1);
      proxy.swallow(...directions);
      // The stream has 200 ms for its answer; then the same heartbeat gets its answer by HTTP.
      expect(await tookMs(seen.link.sendHeartbeat(beat))).toBeLessThan(600);
      await waitFor("polling", () => seen.ups.length === 2);
      expect(seen.ups.map(({ channel }) => channel)).toEqual(["grpc", "poll"]);
      expect(seen.downs[0]?.message).toMatch(/not answered within 200 ms/);
      proxy.heal();
      await waitFor("gRPC", () => seen.link.channel() === "grpc");
      expect(await seen.link.sendHeartbeat(beat)).toBeDefined();
    },
  );

  test("a held poll and an HTTP heartbeat are given up in time, and the next ones use new connections", async () => {
    const http = keep(await startHttpLab(polls));
    const proxy = keep(await startProxy(Number(new URL(http.endpoint).port)));
    const calls = httpCalls(`http://127.0.0.1:${proxy.port}`, { timeoutMs: 300 });
    closers.push(() => calls.close());
    const seen = choose({ channel: "poll", http: calls });
    await waitFor("the link", () => seen.ups.length === 1);
    await seen.link.sendHeartbeat(beat);
    proxy.swallow("down");
    expect(await tookMs(seen.link.sendHeartbeat(beat))).toBeLessThan(600);
    await waitFor("the end of the link", () => seen.downs.length >= 1);
    proxy.heal();
    await waitFor("the link", () => seen.ups.length >= 2);
    expect(await seen.link.sendHeartbeat(beat)).toBeDefined();
  });

  test("a server that takes the connection and never says a word costs the connect time, then polling begins", async () => {
    const silent = createTcpServer((socket) => {
      // One socket for each try would be left behind by node:http2 itself, for as long as the peer says nothing.
      socket.once("close", () => void closed.push(socket));
      taken.push(socket);
      socket.resume();
    });
    const taken: Socket[] = [];
    const closed: Socket[] = [];
    const port = await listen(silent);
    const http = keep(await startHttpLab(polls));
    const seen = choose({
      grpcEndpoint: `127.0.0.1:${port}`,
      http: httpCalls(http.endpoint),
      timing: { ...quick, connectMs: 200, retryUpMs: 10_000 },
    });
    await waitFor("polling", () => seen.ups.length === 1, { timeoutMs: 1500 });
    expect(seen.link.channel()).toBe("poll");
    await waitFor("the end of the connection", () => closed.length === 1);
    expect(taken).toHaveLength(1);
  });
});

describe("a server that says too little or too much", () => {
  /** Sends these bytes one by one, far too slowly. */
  const drip = (socket: NodeJS.WritableStream & { destroyed: boolean }, bytes: Buffer): void => {
    let n = 0;
    const timer = setInterval(() => {
      if (socket.destroyed || n >= bytes.length) clearInterval(timer);
      else socket.write(bytes.subarray(n, ++n));
    }, 20);
    closers.push(() => clearInterval(timer));
  };

  test("a byte now and then is no answer: to the connection, to connect, to a heartbeat, to a request", async () => {
    // An HTTP/2 settings frame of thirty settings that would be whole after four seconds.
    const settings = Buffer.concat([Buffer.from([0, 0, 180, 4, 0, 0, 0, 0, 0]), Buffer.alloc(180)]);
    const slowHello = await listen(createTcpServer((socket) => drip(socket, settings)));
    const timing = { ...quick, connectMs: 300, reconnectFirstMs: 10_000, reconnectCapMs: 10_000 };
    const startedMs = performance.now();
    const warned: string[] = [];
    const log = { ...silentLog, warn: (fields: object) => void warned.push(String(Object(fields).error)) };
    choose({ channel: "grpc", grpcEndpoint: `127.0.0.1:${slowHello}`, timing, log });
    await waitFor("the end of the try", () => warned.length === 1);
    expect(performance.now() - startedMs).toBeLessThan(900);
    expect(warned[0]).toMatch(/did not accept the stream within 300 ms/);

    const server = createHttp2Server();
    server.on("stream", (stream) => {
      stream.on("error", () => {});
      stream.respond({ ":status": 200, "content-type": "application/grpc" });
      stream.write(frameOf(encodeControllerMessage({ kind: "connect_ack", reply: accepted })));
      drip(stream, frameOf(Buffer.alloc(1000)));
    });
    const seen = choose({ channel: "grpc", grpcEndpoint: `127.0.0.1:${await listen(server)}` });
    await waitFor("the link", () => seen.ups.length === 1);
    await expect(seen.link.sendHeartbeat(beat)).rejects.toMatchObject({ code: "controller_unreachable" });

    const slowBody = await listen(
      createHttpServer((_, response) => {
        response.writeHead(200, { "content-length": 1000 });
        drip(response, Buffer.alloc(1000, 32));
      }),
    );
    const client = keep(createHttpClient({ endpoint: `http://127.0.0.1:${slowBody}` }));
    const call = client.call({ method: "GET", path: "/", timeoutMs: 300 });
    await expect(call).rejects.toMatchObject({ message: expect.stringMatching(/within 300 ms/) });
  });

  test.each<[string, (response: ServerResponse) => void]>([
    [
      "an endless body",
      (response) => {
        const more = (): void => {
          if (!response.destroyed) response.write(Buffer.alloc(65_536, 32), () => setImmediate(more));
        };
        more();
      },
    ],
    [
      "an endless body of an error",
      (response) => {
        response.statusCode = 500;
        const more = (): void => {
          if (!response.destroyed) response.write(Buffer.alloc(65_536, 32), () => setImmediate(more));
        };
        more();
      },
    ],
    [
      "endless headers",
      ({ socket }) => {
        socket?.write("HTTP/1.1 200 OK\r\n");
        const more = (): void => {
          if (socket?.destroyed === false)
            socket.write(`x-more: ${"x".repeat(4000)}\r\n`, () => setImmediate(more));
        };
        more();
      },
    ],
    [
      "a body that ends before its length",
      (response) => {
        response.writeHead(200, { "content-length": 1000 });
        response.write("{}", () => response.destroy());
      },
    ],
  ])("%s ends in an error, and the connection is closed", async (_name, misbehave) => {
    const server = createHttpServer((_, response) => misbehave(response));
    const port = await listen(server);
    const gone = new Promise((resolve) =>
      server.once("connection", (socket) => socket.once("close", resolve)),
    );
    const client = keep(createHttpClient({ endpoint: `http://127.0.0.1:${port}` }));
    const before = process.memoryUsage().rss;
    await expect(client.call({ method: "GET", path: "/", timeoutMs: 5000 })).rejects.toMatchObject({
      code: expect.stringMatching(/payload_too_large|controller_unreachable/),
    });
    await gone;
    expect(process.memoryUsage().rss - before).toBeLessThan(100 * 1024 * 1024);
  });
});

describe("a server that wants the agent to go", () => {
  async function startGoAwayServer(onStream: (stream: ServerHttp2Stream, n: number) => void) {
    const openedAtMs: number[] = [];
    const server = createHttp2Server();
    server.on("stream", (stream) => {
      openedAtMs.push(performance.now());
      stream.on("error", () => {});
      onStream(stream, openedAtMs.length);
    });
    server.on("session", (session) => session.on("error", () => {}));
    const endpoint = `127.0.0.1:${await listen(server)}`;
    return { openedAtMs, endpoint };
  }
  const accept = (stream: ServerHttp2Stream): void => {
    stream.respond({ ":status": 200, "content-type": "application/grpc" });
    stream.write(frameOf(encodeControllerMessage({ kind: "connect_ack", reply: accepted })));
  };
  const say = (stream: ServerHttp2Stream, goAway: GoAway): void =>
    void stream.write(frameOf(encodeControllerMessage({ kind: "go_away", goAway })));

  test("GOAWAY alone: with an error, or for a stream that it did not take, the agent connects again", async () => {
    const { endpoint, openedAtMs } = await startGoAwayServer((stream, n) => {
      accept(stream);
      // ENHANCE_YOUR_CALM, then a graceful one that ends the stream.
      if (n === 1) setTimeout(() => stream.session?.goaway(11, 1, Buffer.from("too_many_pings")), 50);
      if (n === 2) {
        stream.session?.goaway(0);
        setTimeout(() => stream.end(), 50);
      }
    });
    const seen = choose({ channel: "grpc", grpcEndpoint: endpoint });
    await waitFor("the third stream", () => openedAtMs.length === 3);
    await waitFor("the link", () => seen.ups.length === 3);
    expect(seen.downs).toHaveLength(2);
  });

  test("go_away: not back before the server said, wherever the end of the stream comes from", async () => {
    const { endpoint, openedAtMs } = await startGoAwayServer((stream, n) => {
      accept(stream);
      if (n === 1) {
        say(stream, { reason: "shutting_down", reconnectAfterMs: 500, deadlineMs: 0 });
        stream.end();
      }
      // The second one is announced and never ended: the agent has to go by itself.
      if (n === 2) say(stream, { reason: "shutting_down", reconnectAfterMs: 500, deadlineMs: 100 });
    });
    const seen = choose({ channel: "grpc", grpcEndpoint: endpoint });
    await waitFor("the third stream", () => openedAtMs.length === 3);
    const [first = 0, second = 0, third = 0] = openedAtMs;
    expect(second - first).toBeGreaterThanOrEqual(490);
    // 100 ms announced, 200 ms for the answer, 500 ms away.
    expect(third - second).toBeGreaterThanOrEqual(790);
    expect(third - second).toBeLessThan(2000);
    expect(seen.downs.at(-1)?.message).toMatch(/did not end the stream \(shutting_down\)/);
  });

  test.each([
    ["a proxy's 503 with Retry-After", { ":status": 503, "retry-after": "1" }],
    ["gRPC's pushback", { ":status": 200, "grpc-status": "14", "grpc-retry-pushback-ms": "1000" }],
  ])("%s is obeyed", async (_name, headers) => {
    const { endpoint, openedAtMs } = await startGoAwayServer((stream) => {
      stream.respond({ "content-type": "application/grpc", ...headers }, { endStream: true });
    });
    choose({ channel: "grpc", grpcEndpoint: endpoint });
    await waitFor("the second try", () => openedAtMs.length === 2);
    const [first = 0, second = 0] = openedAtMs;
    expect(second - first).toBeGreaterThanOrEqual(990);
    expect(second - first).toBeLessThan(1500);
  });
});

test("Retry-After is obeyed for its kind of call alone, and calls in between do not travel", async () => {
  let isBusy = true;
  const http = keep(
    await startHttpLab(({ url }) =>
      isBusy && url.endsWith("/heartbeat")
        ? { status: 429, body: { error: { code: "rate_limited", message: "slow", retry_after_ms: 400 } } }
        : { body: { up_to_seq: 1, next_interval_ms: 5000 } },
    ),
  );
  const calls = keep(httpCalls(http.endpoint));
  const startedMs = performance.now();
  await expect(calls.postHeartbeat(beat)).rejects.toMatchObject({ retryAfterMs: 400 });
  isBusy = false;
  await expect(calls.postHeartbeat(beat)).rejects.toMatchObject({
    code: "rate_limited",
    retryAfterMs: expect.toSatisfy((ms) => ms > 0 && ms <= 400),
  });
  expect(http.requests).toHaveLength(1);
  expect(await calls.requestRegistrationToken({})).toBeDefined();
  await waitFor("the end of the pause", () =>
    calls.postHeartbeat(beat).then(
      () => true,
      () => false,
    ),
  );
  expect(performance.now() - startedMs).toBeGreaterThanOrEqual(395);
  expect(http.requests.filter(({ url }) => url.endsWith("/heartbeat"))).toHaveLength(2);
});
