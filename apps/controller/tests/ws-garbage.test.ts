import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog, waitFor } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { limits } from "@mig/protocol";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { createWsEdge } from "../src/listen/ws/ws-edge.ts";
import { dialWs } from "./dial-ws.ts";
import { openTestListeners, type TestListeners, talk } from "./open-test-listeners.ts";

/**
 * Everything that a WebSocket can be sent and should not (reliability-security §5.3, W1 to W4): refused with the right
 * status or ended with the right close code, and the process goes on as if nothing had been.
 */
let mig: TestListeners;
let guarded: TestListeners;
let folder: string;
beforeAll(async () => {
  mig = await openTestListeners({ flags: ["--dev", "--connection-timeout", "500ms"] });
  folder = await mkdtemp(join(tmpdir(), "mig-ws-"));
  const file = async (name: string, content: string): Promise<string> => {
    await writeFile(join(folder, name), content);
    return join(folder, name);
  };
  guarded = await openTestListeners({
    flags: [
      ...["--agent-token-file", await file("agent", "a".repeat(32))],
      ...["--operator-token-file", await file("operator", "o".repeat(32))],
      ...["--config", await file("mig.yaml", "pools: []\ngithub: { apps: [] }\n")],
    ],
  });
});
afterAll(async () => {
  await mig[Symbol.asyncDispose]();
  await guarded[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});
afterEach(async () => {
  expect((await fetch(`${mig.url}/health`)).status).toBe(200);
});

let vms = 0;
/** Of a VM of its own for each case: one that has fallen silent is written off and gets no second session. */
function newPath(): string {
  vms += 1;
  return `/api/v1/vms/vm-${vms}/commands/ws`;
}
const head = (more: Record<string, string | undefined> = {}, line = `GET ${newPath()}`): string => {
  const headers: Record<string, string | undefined> = {
    Host: "mig",
    Connection: "Upgrade",
    Upgrade: "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": randomBytes(16).toString("base64"),
    "Sec-WebSocket-Protocol": "mig.v1",
    ...more,
  };
  const lines = Object.entries(headers).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}: ${value}\r\n`],
  );
  return `${line} HTTP/1.1\r\n${lines.join("")}\r\n`;
};

describe("W1: a handshake that is none is answered like any other request", () => {
  test.each<[string, string, number, string]>([
    ["no key", head({ "Sec-WebSocket-Key": undefined }), 400, "sec-websocket-key"],
    ["a key of 3 bytes", head({ "Sec-WebSocket-Key": "AAAA" }), 400, "sec-websocket-key"],
    ["no version", head({ "Sec-WebSocket-Version": undefined }), 400, "sec-websocket-version"],
    ["version 8", head({ "Sec-WebSocket-Version": "8" }), 400, "sec-websocket-version"],
    ["a page of somebody else", head({ Origin: "https://evil.example" }), 403, "another origin"],
    ["an unknown subprotocol", head({ "Sec-WebSocket-Protocol": "soap" }), 400, "mig.v1"],
    ["POST", head({}, `POST ${newPath()}`), 405, "GET"],
    ["another path", head({}, "GET /health/ws"), 404, "nothing"],
    ["an upgrade elsewhere", head({}, "GET /health"), 200, "ok"],
    ["no upgrade at all", head({ Upgrade: undefined, Connection: "close" }), 422, "upgrade this connection"],
    ["an id that is none", head({}, "GET /api/v1/vms/..%2f..%2fetc/commands/ws"), 400, "separator"],
    ["an id of 129", head({}, `GET /api/v1/vms/${"a".repeat(129)}/commands/ws`), 400, "vm_id"],
    [
      "two Authorizations",
      head({ Authorization: "Bearer a\r\nAuthorization: Bearer b" }),
      400,
      "more than one",
    ],
  ])("%s", async (_, bytes, status, words) => {
    const heard = await talk(mig.port, bytes);
    expect(heard).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    expect(heard).toContain(words);
  });

  test.each<[string, string | undefined, number]>([
    ["no token", undefined, 401],
    ["an unknown token", "Bearer x", 401],
    ["an operator's token", `Bearer ${"o".repeat(32)}`, 403],
  ])("%s", async (_, Authorization, status) => {
    expect(await talk(guarded.port, head({ Authorization }))).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
  });

  test("the agents' token opens it, and a token after the upgrade is too late", async () => {
    const headers = { authorization: `Bearer ${"a".repeat(32)}` };
    await using agent = await dialWs(`${guarded.url}/api/v1/vms/vm-1/commands/ws`, { headers });
    agent.connect("vm-1");
    expect(await agent.next("connect_ack")).toMatchObject({ accepted: true });
  });

  test("credentials that end while it is open end it with 4401", async () => {
    let isOver = false;
    const parts = { desk: mig.real.desk, log: silentLog, files: undefined, retryMs: 10 };
    const edge = createWsEdge({ ...parts, idleMs: 5_000, pingMs: 50 });
    const server = createServer();
    server.on("upgrade", (request, socket, first) =>
      edge.route(request, socket as Socket, first, (raw, response) =>
        edge.accept(raw, response, {
          vmId: "vm-1",
          own: (message) => message,
          recheck: async () => {
            if (isOver) throw new MigError("unauthenticated", "the token has expired");
          },
        }),
      ),
    );
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    try {
      await using agent = await dialWs(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
      agent.connect("vm-1");
      await agent.next("connect_ack");
      isOver = true;
      expect(await agent.ended).toBe(4401);
    } finally {
      await edge.close(0);
      server.close();
    }
  });
});

interface FrameShape {
  opcode?: number;
  isLast?: boolean;
  isMasked?: boolean;
  rsv?: number;
  /** In place of the true one, in 64 bits. */
  length?: bigint;
}

function frame(payload: string | Buffer, shape: FrameShape = {}): Buffer {
  const { opcode = 1, isLast = true, isMasked = true, rsv = 0, length } = shape;
  const body = Buffer.from(payload);
  const mask = isMasked ? 0x80 : 0;
  const first = (isLast ? 0x80 : 0) | (rsv << 4) | opcode;
  let front = Buffer.from([first, mask | body.length]);
  if (length !== undefined || body.length > 65_535) {
    front = Buffer.from([first, mask | 127, ...Buffer.alloc(8)]);
    front.writeBigUInt64BE(length ?? BigInt(body.length), 2);
  } else if (body.length > 125)
    front = Buffer.from([first, mask | 126, body.length >> 8, body.length & 0xff]);
  // A mask of zeros is one, and leaves the payload readable here.
  return Buffer.concat([front, Buffer.alloc(isMasked ? 4 : 0), body]);
}

/** Says the frames after a good handshake and answers the code of the close frame that comes, or 1006. */
async function codeAfter(bytes: Buffer, isSeed = false): Promise<number> {
  const hello = head({ "Sec-WebSocket-Protocol": isSeed ? undefined : "mig.v1" });
  const heard = Buffer.from(await talk(mig.port, Buffer.concat([Buffer.from(hello), bytes])), "latin1");
  let at = heard.indexOf("\r\n\r\n") + 4;
  expect(heard.subarray(0, 12).toString()).toBe("HTTP/1.1 101");
  while (at + 2 <= heard.length) {
    const opcode = (heard[at] ?? 0) & 0xf;
    let length = (heard[at + 1] ?? 0) & 0x7f;
    at += 2;
    if (length === 126) {
      length = heard.readUInt16BE(at);
      at += 2;
    }
    if (opcode === 8) return length >= 2 ? heard.readUInt16BE(at) : 1005;
    at += length;
  }
  return 1006;
}

const close = (code: number, reason: string | Buffer = ""): Buffer => {
  const body = Buffer.concat([Buffer.from([code >> 8, code & 0xff]), Buffer.from(reason)]);
  return frame(body, { opcode: 8 });
};

describe("W2: frames that break the protocol", () => {
  test.each<[string, Buffer, number]>([
    ["not masked", frame("{}", { isMasked: false }), 1002],
    ["a reserved bit", frame("{}", { rsv: 4 }), 1002],
    ["another reserved bit", frame("{}", { rsv: 1 }), 1002],
    ["a reserved opcode", frame("{}", { opcode: 3 }), 1002],
    ["a reserved control opcode", frame("", { opcode: 11 }), 1002],
    ["a ping of 126 bytes", frame("x".repeat(126), { opcode: 9 }), 1002],
    ["a fragmented ping", frame("x", { opcode: 9, isLast: false }), 1002],
    ["a continuation of nothing", frame("x", { opcode: 0 }), 1002],
    ["a message in the middle of another", Buffer.concat([frame("{", { isLast: false }), frame("{}")]), 1002],
    ["text that is not UTF-8", frame(Buffer.from([0xc3, 0x28])), 1007],
    ["half a surrogate in UTF-8", frame(Buffer.from([0xed, 0xa0, 0x80])), 1007],
    ["a binary message", frame("{}", { opcode: 2 }), 1003],
    ["close with code 0", close(0), 1002],
    ["close with code 1005", close(1005), 1002],
    ["close with code 5000", close(5000), 1002],
    ["close with half a code", frame("x", { opcode: 8 }), 1002],
    ["close with 124 bytes of reason", close(1000, "x".repeat(124)), 1002],
    ["close with a reason that is not UTF-8", close(1000, Buffer.from([0xff])), 1007],
    ["a proper close", close(1000, "bye"), 1000],
  ])("%s", async (_, bytes, code) => {
    expect(await codeAfter(bytes)).toBe(code);
  });
});

describe("W3: sizes, floods and silence", () => {
  test.each<[string, Buffer, number]>([
    ["a frame that claims 2^62 bytes", frame("{}", { length: 2n ** 62n }), 1009],
    ["a frame that claims 2^32 bytes", frame("{}", { length: 2n ** 32n }), 1009],
    ["a message above the limit", frame("x".repeat(limits.messageBytesMax + 1)), 1009],
    [
      "fragments above the limit together",
      Buffer.concat([
        frame("x".repeat(800_000), { isLast: false }),
        frame("x".repeat(800_000), { opcode: 0 }),
      ]),
      1009,
    ],
    [
      "a hundred thousand fragments",
      Buffer.concat([
        frame("[", { isLast: false }),
        ...Array.from({ length: 100_000 }, () => frame("", { opcode: 0, isLast: false })),
      ]),
      1008,
    ],
    ["a flood of pings", Buffer.concat(Array.from({ length: 5_000 }, () => frame("", { opcode: 9 }))), 4429],
    ["a flood of pongs", Buffer.concat(Array.from({ length: 5_000 }, () => frame("", { opcode: 10 }))), 4429],
    ["half a frame, then silence", frame("{}").subarray(0, 3), 4408],
  ])("%s", async (_, bytes, code) => {
    expect(await codeAfter(bytes)).toBe(code);
  });

  test("one that never reads is let go", async () => {
    await using agent = await dialWs(`${mig.url}/api/v1/vms/vm-deaf/commands/ws`);
    agent.connect("vm-deaf");
    await agent.next("connect_ack");
    agent.socket.pause();
    const session = await waitFor("the session", () => mig.real.registry.get("vm-deaf"));
    // Each brings an error notice; as many in one frame as may be.
    const foreign = Array.from({ length: 500 }, () => ({ kind: "event", type: "error", vm_id: "vm-yours" }));
    for (let i = 0; i < 100 && mig.real.registry.get("vm-deaf") === session; i += 1) {
      agent.say(foreign);
      await new Promise((resolve) => setTimeout(resolve, 12));
    }
    await waitFor("the session to end", () => mig.real.registry.get("vm-deaf") === undefined);
  });

  test("one that is gone without a word is let go; one that is only quiet is not", async () => {
    await using quiet = await dialWs(`${mig.url}/api/v1/vms/vm-quiet/commands/ws`);
    quiet.connect("vm-quiet");
    await quiet.next("connect_ack");
    const gone = connect(mig.port, "127.0.0.1", () => {
      gone.write(head({ "Sec-WebSocket-Protocol": undefined }, "GET /api/v1/vms/vm-gone/commands"));
    });
    const closed = new Promise((resolve) => gone.on("close", resolve));
    gone.resume().on("error", () => {});
    await waitFor("its session", () => mig.real.registry.get("vm-gone"));
    await closed; // it answers no ping
    await waitFor("the session to end", () => mig.real.registry.get("vm-gone") === undefined);
    expect(mig.real.registry.get("vm-quiet")).toBeDefined();
  });

  test("a reset at any moment", async () => {
    for (const bytes of ["", head().slice(0, 60), head(), `${head()}\x81`]) {
      await new Promise<void>((resolve) => {
        const socket = connect(mig.port, "127.0.0.1", () =>
          socket.write(bytes, () => socket.resetAndDestroy()),
        );
        socket.on("close", () => resolve()).on("error", () => {});
      });
    }
  });
});

const hello = JSON.stringify({ kind: "connect", protocol_version: 1 });
const said = (...texts: string[]): Buffer => Buffer.concat(texts.map((text) => frame(text)));

describe("W4: messages that are none", () => {
  test.each<[string, Buffer, number]>([
    ["nothing", said(""), 4400],
    ["not JSON", said("{"), 4400],
    ["a number", said("1"), 4400],
    ["null", said("null"), 4400],
    ["no kind", said("{}"), 4400],
    ["an unknown kind", said('{"kind":"explode"}'), 4400],
    ["a kind of ours", said('{"kind":"go_away"}'), 4400],
    ["a kind that is no word", said('{"kind":{"a":1}}'), 4400],
    ["an empty array", said("[]"), 4400],
    ["an array of arrays", said("[[]]"), 4400],
    ["an array of 501", said(`[${Array.from({ length: 501 }, () => hello).join()}]`), 4400],
    ["an event before connect", said('{"kind":"event","type":"error"}'), 4400],
    ["an answer without a command", said(hello, '{"kind":"ack"}'), 4400],
    ["an unknown stage", said(hello, '{"command_id":"c-1","stage":"x"}'), 4400],
    ["a seq that is none", said(hello, '{"kind":"event","type":"error","seq":0.5}'), 4400],
    [
      "depth 100,000",
      said(hello, `{"kind":"event","type":"error","a":${"[".repeat(1e5)}${"]".repeat(1e5)}}`),
      4400,
    ],
    ["connect for another VM", said('{"kind":"connect","vm_id":"another","protocol_version":1}'), 4403],
    ["connect for no VM", said('{"kind":"connect","vm_id":"../../etc","protocol_version":1}'), 4403],
    [
      "connect for a pool that is no id",
      said('{"kind":"connect","pool_id":"../x","protocol_version":1}'),
      4400,
    ],
    ["no connect in time", Buffer.alloc(0), 4408],
    [
      "a flood of heartbeats",
      said(hello, ...Array.from({ length: 500 }, () => '{"kind":"heartbeat"}')),
      4429,
    ],
  ])("%s", async (_, bytes, code) => {
    expect(await codeAfter(bytes)).toBe(code);
  });

  test("NUL, half a surrogate and __proto__ in an event are no harm", async () => {
    await using agent = await dialWs(`${mig.url}/api/v1/vms/vm-odd/commands/ws`);
    agent.connect("vm-odd");
    await agent.next("connect_ack");
    agent.say('{"kind":"event","type":"error","a":"\\u0000","b":"\\ud800","__proto__":{"x":1},"seq":1}');
    expect(await agent.next("event_ack")).toMatchObject({ up_to_seq: 1 });
    expect(agent.heard.some((one) => one["kind"] === "error")).toBe(false);
  });
});
