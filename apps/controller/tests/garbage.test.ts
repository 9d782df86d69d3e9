import { randomBytes } from "node:crypto";
import { readdir } from "node:fs/promises";
import { connect } from "node:net";
import { waitFor } from "@mig/kit";
import { limits } from "@mig/protocol";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { dial } from "./dial.ts";
import { openTestListeners, type TestListeners, talk } from "./open-test-listeners.ts";

/**
 * Garbage on every port (reliability-security §5.2, §5.3): a 4xx or a clean close, never a crash, never a file outside
 * the data directory. After each case the server must still answer.
 */
let mig: TestListeners;
beforeAll(async () => {
  mig = await openTestListeners({ flags: ["--sample", "--connection-timeout", "400ms"] });
});
afterAll(() => mig[Symbol.asyncDispose]());
afterEach(async () => {
  for (const port of [mig.port, mig.grpcPort])
    expect((await fetch(`http://127.0.0.1:${port}/health`)).status).toBe(200);
});

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const settings = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);
const h2 = (...frames: Buffer[]): Buffer => Buffer.concat([Buffer.from(preface), settings, ...frames]);
function frame(type: number, flags: number, stream: number, payload = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

describe.each(["port", "grpcPort"] as const)("bytes on the %s: closed within the bound", (which) => {
  test.each<[string, string | Buffer]>([
    ["nothing", ""],
    ["one byte", "G"],
    ["random bytes", randomBytes(4_096)],
    ["zeros", Buffer.alloc(1_000)],
    ["a TLS hello", Buffer.from("1603010200010001fc0303", "hex")],
    ["half a request line", "GET /health HT"],
    ["half a head", "GET /health HTTP/1.1\r\nHost: a\r\n"],
    ["half an HTTP/2 preface", preface.slice(0, 10)],
    ["an HTTP/2 preface, then silence", preface],
    ["a preface and SETTINGS, then silence", h2()],
    ["a preface and another frame", preface + frame(6, 0, 0, Buffer.alloc(8)).toString("latin1")],
    ["a preface and random bytes", Buffer.concat([Buffer.from(preface), randomBytes(200)])],
    ["garbage frames", h2(randomBytes(500))],
    [
      "an unknown frame type, for ever",
      h2(...Array.from({ length: 50 }, () => frame(0xee, 0xff, 0, randomBytes(50)))),
    ],
    ["a frame that claims 16 MB", h2(Buffer.from([0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 1]))],
    ["DATA on a stream that is not open", h2(frame(0, 0, 1, Buffer.from("x")))],
    ["headers that are not HPACK", h2(frame(1, 4, 1, randomBytes(60)))],
    ["CONTINUATION without headers", h2(frame(9, 0, 1, Buffer.from("x")))],
    ["a flood of empty SETTINGS", h2(...Array.from({ length: 20_000 }, () => settings))],
    ["a flood of PING", h2(...Array.from({ length: 20_000 }, () => frame(6, 0, 0, Buffer.alloc(8))))],
    [
      "a flood of RST_STREAM",
      h2(...Array.from({ length: 5_000 }, (_, i) => frame(3, 0, i * 2 + 1, Buffer.alloc(4)))),
    ],
    ["GOAWAY at once", h2(frame(7, 0, 0, Buffer.alloc(8)))],
  ])("%s", async (_, bytes) => {
    const heard = await talk(mig[which], bytes);
    if (heard.startsWith("HTTP/1.1")) expect(heard).toMatch(/^HTTP\/1\.1 4\d\d /);
  });

  test("resets at any moment", async () => {
    for (const bytes of [
      "",
      "G",
      "GET /health HTTP/1.1\r\n",
      preface,
      h2(),
      "POST /api/v1/vms/a/events HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{",
    ]) {
      await new Promise<void>((resolve) => {
        const socket = connect(mig[which], "127.0.0.1", () =>
          socket.write(bytes, () => socket.resetAndDestroy()),
        );
        socket.on("close", () => resolve()).on("error", () => {});
      });
    }
  });
});

const json = "Host: a\r\nContent-Type: application/json\r\n";
const lastStatus = (heard: string): string | undefined =>
  [...heard.matchAll(/HTTP\/1\.1 (\d{3}) /g)].at(-1)?.[1];
const body = (text: string): string =>
  `${json}Content-Length: ${Buffer.byteLength(text)}\r\nConnection: close\r\n\r\n${text}`;
const get = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`;
const events = "POST /api/v1/vms/vm-1/events HTTP/1.1\r\n";

test.each<[string, string, RegExp]>([
  ["two Content-Lengths", `${events}${json}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}`, /^400$/],
  [
    "length and chunks",
    `${events}${json}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    /^400$/,
  ],
  ["an odd Transfer-Encoding", `${events}${json}Transfer-Encoding: xchunked\r\n\r\n`, /^400$/],
  ["a space before the colon", "GET /health HTTP/1.1\r\nHost : a\r\n\r\n", /^400$/],
  ["a folded header", "GET /health HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", /^400$/],
  ["no Host", "GET /health HTTP/1.1\r\n\r\n", /^400$/],
  ["two Hosts", "GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n", /^400$/],
  [
    "two Authorizations",
    "GET /health HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\nConnection: close\r\n\r\n",
    /^400$/,
  ],
  [
    "an absolute target",
    "GET http://elsewhere/health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    /^400$/,
  ],
  ["the target *", "OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", /^400$/],
  ["CONNECT", "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", /^$/],
  ["NUL in a header", "GET /health HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", /^400$/],
  ["a head of 20 KB", `GET /health HTTP/1.1\r\nHost: a\r\nX: ${"a".repeat(20_000)}\r\n\r\n`, /^431$/],
  ["an expectation", "GET /health HTTP/1.1\r\nHost: a\r\nExpect: x\r\nConnection: close\r\n\r\n", /^417$/],
  ["broken percent signs", get("/api/v1/vms/%zz"), /^400$/],
  ["NUL in an id", get("/api/v1/vms/a%00b"), /^400$/],
  ["dots in an id", get("/api/v1/vms/..%2f..%2fetc%2fpasswd"), /^400$/],
  ["encoded dots in an id", get("/api/v1/vms/%2e%2e%2f%2e%2e%2fetc/commands"), /^400$/],
  ["a backslash in an id", get("/api/v1/vms/a%5c..%5cb"), /^400$/],
  ["dot segments", get("/api/v1/vms/../../etc/passwd"), /^40[04]$/],
  ["an id of 10 KB", get(`/api/v1/vms/${"a".repeat(10_000)}`), /^400$/],
  ["an id of 129", get(`/api/v1/vms/${"a".repeat(129)}`), /^400$/],
  ["an id of spaces", get("/api/v1/vms/%20%20"), /^400$/],
  ["an id of another script", get("/api/v1/vms/%E2%80%AE"), /^400$/],
  ["__proto__ as an id", get("/api/v1/vms/__proto__"), /^400$/],
  ["constructor as an id", get("/api/v1/vms/constructor"), /^404$/],
  ["a slash in an id", get("/api/v1/vms/a/b/c/events"), /^404$/],
  ["a __proto__ key", `${events}${body('{"type":"error","__proto__":{"x":1}}')}`, /^400$/],
  ["a constructor key", `${events}${body('{"type":"error","constructor":{"prototype":{"x":1}}}')}`, /^400$/],
  ["depth 100", `${events}${body(`{"type":"error","a":${"[".repeat(100)}${"]".repeat(100)}}`)}`, /^400$/],
  [
    "depth 100,000",
    `${events}${body(`{"type":"error","a":${"[".repeat(100_000)}${"]".repeat(100_000)}}`)}`,
    /^400$/,
  ],
  [
    "depth 100,000 in a heartbeat",
    `POST /api/v1/vms/vm-1/heartbeat HTTP/1.1\r\n${body(`{"a":${'{"b":'.repeat(100_000)}1${"}".repeat(100_000)}}`)}`,
    /^400$/,
  ],
  ["half a surrogate", `${events}${body('{"type":"error","a":"\\ud800"}')}`, /^200$/],
  ["NUL in data", `${events}${body('{"type":"error","a":"\\u0000"}')}`, /^200$/],
  ["unknown fields", `${events}${body('{"type":"error","nobody_knows":{"a":[1]}}')}`, /^200$/],
  ["a body of 100 MB, announced", `${events}${json}Content-Length: 104857600\r\n\r\n{`, /^413$/],
  ["a body that does not come", `${events}${json}Content-Length: 10\r\n\r\n{`, /^408$/],
])(
  "%s → %s",
  async (_, bytes, status) => {
    const port = mig.port;
    const heard = await talk(port, bytes, (said) => status.source !== "^408$" && said.includes("\r\n\r\n"));
    expect(lastStatus(heard) ?? "").toMatch(status);
    if (lastStatus(heard)?.startsWith("4") === true && lastStatus(heard) !== "417")
      expect(heard).toContain("x-request-id");
  },
  35_000,
);

test.each([
  ["that is read", events],
  ["to no path", "POST /nowhere HTTP/1.1\r\n"],
  ["under a method that is not there", "PUT /health HTTP/1.1\r\n"],
  ["of a GET", "GET /health HTTP/1.1\r\n"],
])("a body of 100 MB in chunks %s is cut off early", async (_, head) => {
  let sentBytes = 0;
  const heard = await new Promise<string>((resolve) => {
    let said = "";
    const socket = connect(mig.port, "127.0.0.1");
    const chunk = `10000\r\n${"a".repeat(0x10000)}\r\n`;
    const pump = (): void => {
      while (sentBytes < 100 * 1024 * 1024 && socket.writable) {
        sentBytes += chunk.length;
        if (!socket.write(chunk)) return void socket.once("drain", pump);
      }
    };
    socket.on("data", (data) => {
      said += data.toString();
    });
    socket.on("error", () => {}).on("close", () => resolve(said));
    socket.write(`${head}${json}Transfer-Encoding: chunked\r\n\r\n`, pump);
  });
  expect(sentBytes).toBeLessThan(30 * 1024 * 1024);
  if (heard !== "")
    expect(heard).toMatch(head === events ? /^HTTP\/1.1 413/ : /^HTTP\/1.1 (?:200|40[45]|413)/);
});

test("a connection that pipelines thousands of requests and reads nothing is cut", async () => {
  const heard = await talk(
    mig.port,
    get("/api/v1/openapi.json").replace("close", "keep-alive").repeat(5_000),
  );
  expect(heard.match(/^HTTP\/1\.1 200/gm)?.length ?? 0).toBeLessThan(5_000);
});

test("a long row of work for the embedded database lets the event loop turn in between", async () => {
  let turns = 0;
  let isDone = false;
  const turn = (): void => {
    turns += 1;
    if (!isDone) setImmediate(turn);
  };
  turn();
  await Promise.all(Array.from({ length: 100 }, () => mig.real.desk.listVms({ limit: 1 })));
  isDone = true;
  expect(turns).toBeGreaterThanOrEqual(100);
});

describe("a stream that nobody has named", () => {
  test("is ended within the bound", async () => {
    await using agent = dial(mig.grpcPort);
    expect(await agent.ended).toMatchObject({ code: 4 });
  });

  test("keeps small answers only", async () => {
    await using agent = dial(mig.grpcPort);
    agent.answer({ commandId: "c-1", success: true, message: "x".repeat(100_000) });
    expect(await agent.next("error")).toMatchObject({ error: { code: "refused" } });
  });

  test("cannot send more than a message may have", async () => {
    await using agent = dial(mig.grpcPort);
    agent.answer({ commandId: "c-1", success: true, message: "x".repeat(limits.messageBytesMax) });
    expect(await agent.ended).toMatchObject({ code: 8 });
  });
});

test("times that no date holds are read as none, over a stream too", async () => {
  await using agent = dial(mig.grpcPort);
  agent.connect("vm-1");
  await agent.next("connect_ack");
  const hugeMs = 9_007_199_254_740_000;
  agent.event("vm-1", { occurredAtMs: hugeMs });
  agent.send({
    kind: "heartbeat",
    heartbeat: {
      vmId: "vm-1",
      poolId: "p",
      sentAtMs: hugeMs,
      migletState: "job_running",
      currentJob: { jobId: "j", runId: "r", startedAtMs: hugeMs },
    },
  });
  await agent.next("event_ack");
  await agent.next("heartbeat_ack");
  expect(agent.heard.some((one) => one.kind === "error")).toBe(false);
});

test("one client cannot take every connection for ever", async () => {
  const silent = Array.from({ length: 200 }, () => connect(mig.port, "127.0.0.1").on("error", () => {}));
  let closed = 0;
  for (const socket of silent) socket.on("close", () => (closed += 1)).resume();
  await waitFor("the silent ones to be closed", () => closed === silent.length);
});

test("nothing of all this became a file outside a VM's directory", async () => {
  const inside = await readdir(mig.dataDir).catch(() => []);
  expect(inside.filter((name) => name !== "vm-1")).toEqual([]);
  expect((await readdir(`${mig.dataDir}/..`)).filter((name) => name !== "store")).toEqual(["data"]);
});
