import { Agent } from "node:https";
import { connect as connectPlain } from "node:net";
import { credentials } from "@grpc/grpc-js";
import { waitFor } from "@mig/kit";
import { createTestCa } from "@mig/sandbox";
import { afterEach, describe, expect, test } from "vitest";
import { dial } from "./dial.ts";
import { dialSse } from "./dial-sse.ts";
import { dialWs } from "./dial-ws.ts";
import { talk } from "./open-test-listeners.ts";
import { get, openTlsLab, shake, type TlsLab, type TlsLabSettings } from "./tls-lab.ts";

let lab: TlsLab | undefined;
afterEach(async () => {
  await lab?.[Symbol.asyncDispose]();
  lab = undefined;
});
const open = async (settings?: TlsLabSettings): Promise<TlsLab> => {
  lab = await openTlsLab(settings);
  return lab;
};
const grpcTo = (port: number, caPem: string) => dial(port, {}, credentials.createSsl(Buffer.from(caPem)));

describe("a port with TLS", () => {
  test("speaks HTTP and gRPC on either port, with HSTS", async () => {
    const { ca, listeners } = await open();
    for (const port of [listeners.port, listeners.grpcPort]) {
      const answer = await get(port, "/health", { ca: ca.caPem });
      expect(answer.status).toBe(200);
      expect(answer.headers["strict-transport-security"]).toBe("max-age=31536000");
      const unknown = await get(port, "/nowhere", { ca: ca.caPem });
      expect([unknown.status, unknown.headers["strict-transport-security"]]).toEqual([
        404,
        "max-age=31536000",
      ]);
      await using agent = grpcTo(port, ca.caPem);
      agent.connect(`vm-${port}`);
      await agent.next("connect_ack");
    }
  });

  test("agrees on the protocol, on TLS 1.3 and on one of the two", async () => {
    const { ca, listeners } = await open();
    for (const [offered, agreed] of [
      [["h2"], "h2"],
      [["http/1.1"], "http/1.1"],
      [["h2", "http/1.1"], "http/1.1"],
      [[], false],
    ] as const) {
      const socket = await shake(listeners.port, { ca: ca.caPem, ALPNProtocols: [...offered] });
      expect([socket.alpnProtocol, socket.getProtocol()]).toEqual([agreed, "TLSv1.3"]);
      socket.destroy();
    }
    const refused = shake(listeners.port, { ca: ca.caPem, ALPNProtocols: ["spdy/3"] });
    await expect(refused).rejects.toThrow(/no application protocol/i);
  });

  test("closes on another protocol than the one agreed on", async () => {
    const { ca, listeners } = await open();
    const preface = Buffer.concat([
      Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
      Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]),
    ]);
    for (const [alpn, bytes] of [
      ["h2", "GET /health HTTP/1.1\r\nhost: x\r\n\r\n"],
      ["http/1.1", preface],
      ["h2", "PRI * nonsense"],
    ] as const) {
      const socket = await shake(listeners.port, { ca: ca.caPem, ALPNProtocols: [alpn] });
      let heard = "";
      socket.on("data", (chunk) => {
        heard += chunk.toString("latin1");
      });
      socket.write(bytes);
      await waitFor(`the end of ${alpn}`, () => socket.closed);
      expect(heard).toBe("");
    }
  });

  test("TLS 1.2 is spoken only by setting, and then with forward secrecy only", async () => {
    const strict = await open();
    const old = { ca: strict.ca.caPem, maxVersion: "TLSv1.2" } as const;
    await expect(shake(strict.listeners.port, old)).rejects.toThrow(/protocol version/i);
    await strict[Symbol.asyncDispose]();
    const { ca, listeners } = await open({ flags: ["--tls-min-version", "1.2"] });
    const answer = await get(listeners.port, "/health", { ca: ca.caPem, maxVersion: "TLSv1.2" });
    expect(answer.status).toBe(200);
    const socket = await shake(listeners.port, { ca: ca.caPem, maxVersion: "TLSv1.2" });
    const refusal = new Promise<Error>((resolve) => socket.once("error", resolve));
    socket.renegotiate({}, () => {});
    expect((await refusal).message).toMatch(/no renegotiation/i);
    socket.destroy();
    const weak = { ca: ca.caPem, maxVersion: "TLSv1.2", ciphers: "ECDHE-ECDSA-AES128-SHA" } as const;
    await expect(shake(listeners.port, weak)).rejects.toThrow(/handshake failure/i);
    const ancient = { ca: ca.caPem, minVersion: "TLSv1.1", maxVersion: "TLSv1.1" } as const;
    await expect(shake(listeners.port, { ...ancient, ciphers: "DEFAULT@SECLEVEL=0" })).rejects.toThrow();
  });

  test("a client with another authority leaves, and the port lives on", async () => {
    const { ca, listeners } = await open();
    const other = await createTestCa("other");
    await expect(get(listeners.port, "/health", { ca: other.caPem })).rejects.toThrow(/certificate/);
    expect((await get(listeners.port, "/health", { ca: ca.caPem })).status).toBe(200);
  });
});

describe("what is not TLS", () => {
  test("plain HTTP is told to use https", async () => {
    const { listeners } = await open();
    const heard = await talk(listeners.port, "GET /health HTTP/1.1\r\nhost: x\r\n\r\n");
    expect(heard).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
    expect(heard).toContain("use https://");
    const posted = await talk(listeners.port, `POST /x HTTP/1.1\r\nhost: x\r\n\r\n${"x".repeat(200_000)}`);
    expect(posted).toContain("use https://");
  });

  test.each([
    ["zeros", Buffer.alloc(64)],
    ["a record that is none", Buffer.from([0x16, 3, 1, 0, 5, 1, 2, 3, 4, 5, 6, 7])],
    ["a record that is too long", Buffer.from([0x16, 3, 1, 0xff, 0xff, ...Buffer.alloc(64)])],
    ["an alert", Buffer.from([0x15, 3, 1, 0, 2, 2, 40])],
  ])("%s is closed", async (_, bytes) => {
    const { ca, listeners } = await open();
    expect(await talk(listeners.port, bytes)).not.toContain("HTTP");
    expect((await get(listeners.port, "/health", { ca: ca.caPem })).status).toBe(200);
  });

  test("silence, half a handshake and silence after it are cut", async () => {
    const { ca, listeners } = await open({ flags: ["--connection-timeout", "100ms"] });
    expect(await talk(listeners.port, "")).toBe("");
    expect(await talk(listeners.port, Buffer.from([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc]))).toBe("");
    const socket = await shake(listeners.port, { ca: ca.caPem });
    socket.resume();
    await waitFor("the end of the silent one", () => socket.closed);
    expect((await get(listeners.port, "/health", { ca: ca.caPem })).status).toBe(200);
  });

  test("a client that goes in the middle of its handshake does no harm", async () => {
    const { ca, listeners } = await open();
    for (let i = 0; i < 20; i += 1) {
      const socket = connectPlain(listeners.port, "127.0.0.1");
      socket.on("error", () => {});
      socket.write(Buffer.from([0x16, 3, 1, 2, 0, 1]), () =>
        i % 2 === 0 ? socket.resetAndDestroy() : socket.end(),
      );
    }
    expect((await get(listeners.port, "/health", { ca: ca.caPem })).status).toBe(200);
  });
});

describe("client certificates", () => {
  test("required: no answer without one of the authority", async () => {
    const { ca, listeners } = await open({
      flags: ["--tls-client-ca-file", "CA", "--tls-client-certs", "required"],
    });
    const mine = await ca.issue({ hosts: [], commonName: "vm-1" });
    const foreign = await (await createTestCa("other")).issue({ hosts: [], commonName: "vm-1" });
    const ask = (cert?: string, key?: string) => get(listeners.port, "/health", { ca: ca.caPem, cert, key });
    expect((await ask(mine.certPem, mine.keyPem)).status).toBe(200);
    await expect(ask()).rejects.toThrow();
    await expect(ask(foreign.certPem, foreign.keyPem)).rejects.toThrow();
    await using stranger = grpcTo(listeners.port, ca.caPem);
    expect((await stranger.ended).code).toBe(14);
    const pems = [ca.caPem, mine.keyPem, mine.certPem].map((pem) => Buffer.from(pem));
    await using agent = dial(listeners.port, {}, credentials.createSsl(...pems));
    agent.connect("vm-1");
    await agent.next("connect_ack");
  });

  test("optional: none is fine, a wrong or expired one is not", async () => {
    const { ca, listeners, lines } = await open({ flags: ["--tls-client-ca-file", "CA"] });
    const mine = await ca.issue({ hosts: [], commonName: "vm-1" });
    const foreign = await (await createTestCa("other")).issue({ hosts: [], commonName: "vm-1" });
    const expired = await ca.issue({
      hosts: [],
      commonName: "vm-1",
      days: 1,
      notBefore: new Date(Date.now() - 3 * 86_400_000),
    });
    const ask = (cert?: string, key?: string) => get(listeners.port, "/health", { ca: ca.caPem, cert, key });
    expect((await ask()).status).toBe(200);
    expect((await ask(mine.certPem, mine.keyPem)).status).toBe(200);
    await expect(ask(foreign.certPem, foreign.keyPem)).rejects.toThrow();
    await expect(ask(expired.certPem, expired.keyPem)).rejects.toThrow();
    expect(lines.filter(({ msg }) => msg === "a client certificate was refused")).toHaveLength(2);
  });
});

describe("a renewed certificate", () => {
  const renewed = "new connections see the new certificate";
  const refused = "the new certificate cannot be served; the old one stays";
  const says = (lines: TlsLab["lines"], sentence: string) =>
    waitFor(sentence, () => lines.find(({ msg }) => msg === sentence));

  test("is served to new connections; those that are open stay, whatever they carry", async () => {
    const { ca, listeners, lines, put } = await open({ flags: ["--connection-timeout", "400ms"] });
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const before = await get(listeners.port, "/health", { ca: ca.caPem, agent });
    await using stream = grpcTo(listeners.port, ca.caPem);
    stream.connect("vm-1");
    await stream.next("connect_ack");
    const vms = `https://127.0.0.1:${listeners.port}/api/v1/vms`;
    await using socket = await dialWs(`${vms}/vm-2/commands/ws`, { ca: ca.caPem });
    socket.connect("vm-2");
    await socket.next("connect_ack");
    await using events = await dialSse(`${vms}/vm-3/commands/stream?protocol_version=1`, {}, ca.caPem);
    await events.next("connect_ack");
    await put(await ca.issue({ hosts: ["127.0.0.1", "localhost"], commonName: "second", days: 30 }));
    await says(lines, renewed);
    const kept = await get(listeners.port, "/health", { ca: ca.caPem, agent });
    expect([kept.shown, kept.localPort]).toEqual(["first", before.localPort]);
    // Each of the streams still carries something, and none was opened again.
    stream.beat("vm-1");
    await stream.next("heartbeat_ack");
    socket.say({ kind: "heartbeat", miglet_state: "idle" });
    await socket.next("heartbeat_ack");
    const seen = events.text().length;
    await waitFor("the events to go on", () => events.text().length > seen);
    expect(await stream.isOpenAfterMs(0)).toBe(true);
    for (const port of [listeners.port, listeners.grpcPort]) {
      expect((await get(port, "/health", { ca: ca.caPem })).shown).toBe("second");
    }
    agent.destroy();
  });

  test("is served on SIGHUP too", async () => {
    const { ca, listeners, lines, put } = await open();
    await put(await ca.issue({ hosts: ["127.0.0.1", "localhost"], commonName: "second", days: 30 }));
    process.emit("SIGHUP", "SIGHUP");
    await says(lines, renewed);
    expect((await get(listeners.port, "/health", { ca: ca.caPem })).shown).toBe("second");
    expect(lines.filter(({ msg }) => msg === refused)).toEqual([]);
  });

  test("is told once when it is bad, and the old one stays", async () => {
    const { ca, listeners, lines, put } = await open();
    const second = await ca.issue({ hosts: ["127.0.0.1", "localhost"], commonName: "second", days: 30 });
    const stranger = await ca.issue({ hosts: ["127.0.0.1", "localhost"] });
    const notBefore = new Date(Date.now() - 3 * 86_400_000);
    for (const [bad, rule] of [
      [{ certPem: second.certPem, keyPem: stranger.keyPem }, "does not fit"],
      [await ca.issue({ hosts: ["127.0.0.1", "localhost"], days: 1, notBefore }), "expired on"],
      [{ certPem: "half a fi", keyPem: second.keyPem }, "it holds none"],
    ] as const) {
      lines.length = 0;
      await put(bad);
      expect(JSON.stringify(await says(lines, refused))).toContain(rule);
      expect((await get(listeners.port, "/health", { ca: ca.caPem })).shown).toBe("first");
      expect(lines.filter(({ msg }) => msg === refused)).toHaveLength(1);
    }
    await put(second);
    await says(lines, renewed);
    expect((await get(listeners.port, "/health", { ca: ca.caPem })).shown).toBe("second");
  });

  test("is asked for a week before the old one ends, once", async () => {
    const { ca, listeners, lines } = await open({ certificate: { days: 6 } });
    const soon = "the certificate expires soon or has expired; renew the files, no restart is needed";
    await says(lines, soon);
    await get(listeners.port, "/health", { ca: ca.caPem });
    expect(lines.filter(({ msg }) => msg === soon)).toHaveLength(1);
  });
});
