import { mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { createServer as createHttpServer } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import { type AddressInfo, createServer as createTcpServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer as createTlsServer } from "node:tls";
import { createLog, silentLog, waitFor } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { createTestCa, type TestCa, type TestCertificate } from "@mig/sandbox";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { createChosenLink } from "../src/link/choose-link.ts";
import { openGrpcLink } from "../src/link/grpc-link.ts";
import { createHttpClient } from "../src/link/http-request.ts";
import type { LinkUp } from "../src/link/link.ts";
import { openSseLink } from "../src/link/sse-link.ts";
import { createTlsSource, type TlsMaterial } from "../src/link/tls-material.ts";
import { openWsLink } from "../src/link/ws-link.ts";
import { httpCalls, quick, speaker } from "./link-lab.ts";
import { oldTls, startTlsLab, type TlsLab } from "./link-tls-lab.ts";

const hosts = ["localhost", "127.0.0.1"];
const dayMs = 86_400_000;
let ca: TestCa;
let otherCa: TestCa;
let good: TestCertificate;
beforeAll(async () => {
  [ca, otherCa] = await Promise.all([createTestCa(), createTestCa("somebody else")]);
  good = await ca.issue({ hosts });
});

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});
const keep = <T extends { close(): Promise<void> | void }>(one: T): T => {
  closers.push(() => one.close());
  return one;
};
const lab = async (...about: Parameters<typeof startTlsLab>): Promise<TlsLab> =>
  keep(await startTlsLab(...about));
const listen = async (server: Server): Promise<number> => {
  const sockets = new Set<Socket>();
  server.on("connection", (socket) => void sockets.add(socket));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(() => {
    for (const socket of sockets) socket.destroy();
    return new Promise((resolve) => server.close(resolve));
  });
  return (server.address() as AddressInfo).port;
};

async function tryStream(
  open: typeof openGrpcLink,
  endpoint: string,
  material: TlsMaterial,
): Promise<unknown> {
  const tls = async (): Promise<TlsMaterial> => material;
  try {
    const { link } = await open(
      { endpoint, speaker, tls, connectMs: 1500, answerMs: 1500, log: silentLog },
      { onCommand: () => {}, onDown: () => {}, onGoAway: () => {} },
    );
    await link.close();
    return undefined;
  } catch (error) {
    return error;
  }
}

/** One try over each way; undefined when it went well. */
const ways = {
  grpc: (origin: string, material: TlsMaterial) => tryStream(openGrpcLink, origin, material),
  websocket: (origin: string, material: TlsMaterial) => tryStream(openWsLink, origin, material),
  async sse(origin: string, material: TlsMaterial): Promise<unknown> {
    const tls = async (): Promise<TlsMaterial> => material;
    const http = httpCalls(origin, { tls });
    try {
      const { link } = await openSseLink(
        { endpoint: origin, http, speaker, tls, cursor: {}, connectMs: 1500, silentMs: 1500, log: silentLog },
        { onCommand: () => {}, onDown: () => {}, onGoAway: () => {} },
      );
      await link.close();
      return undefined;
    } catch (error) {
      return error;
    } finally {
      http.close();
    }
  },
  async http(origin: string, material: TlsMaterial): Promise<unknown> {
    const client = createHttpClient({ endpoint: origin, tls: async () => material });
    try {
      await client.call({ method: "POST", path: "/x", body: { secret: 1 }, timeoutMs: 1500 });
      return undefined;
    } catch (error) {
      return error;
    } finally {
      client.close();
    }
  },
};

describe.each(["grpc", "websocket", "sse", "http"] as const)("%s over TLS", (way) => {
  const attempt = (port: number, material: TlsMaterial, host = "localhost"): Promise<unknown> =>
    ways[way](`https://${host}:${port}`, material);
  const expectRemedy = (error: unknown, remedy: RegExp): void => {
    expect(error).toBeInstanceOf(MigError);
    expect(error).toMatchObject({ code: "controller_unreachable", message: expect.stringMatching(remedy) });
    // For people: no addresses of memory, no source files of OpenSSL.
    expect((error as Error).message).not.toMatch(/[0-9A-F]{12,}:error|\.c:\d+|\n/);
  };

  test("the right authority lets it in, by name with SNI and by address, with ALPN and TLS 1.3", async () => {
    const server = await lab(good);
    expect(await attempt(server.port, { ca: ca.caPem })).toBeUndefined();
    expect(await attempt(server.port, { ca: ca.caPem }, "127.0.0.1")).toBeUndefined();
    const alpn = way === "grpc" ? "h2" : expect.toSatisfy((one) => one === "http/1.1" || one === false);
    expect(server.connections).toEqual([
      { servername: "localhost", alpn, protocol: "TLSv1.3", client: undefined },
      { servername: false, alpn, protocol: "TLSv1.3", client: undefined },
    ]);
  });

  test("another authority, or none, is not trusted", async () => {
    const server = await lab(good);
    const remedy = /not signed by an authority that this VM trusts: set controller\.ca_path/;
    expectRemedy(await attempt(server.port, { ca: otherCa.caPem }), remedy);
    expectRemedy(await attempt(server.port, {}), remedy);
  });

  test("a certificate that is expired, not yet valid, or of another host", async () => {
    const expired = await ca.issue({ hosts, notBefore: new Date(Date.now() - 3 * dayMs) });
    const early = await ca.issue({ hosts, notBefore: new Date(Date.now() + 3 * dayMs) });
    const foreign = await ca.issue({ hosts: ["controller.example"] });
    const server = await lab(expired);
    expectRemedy(await attempt(server.port, { ca: ca.caPem }), /has expired: renew it.*clock/);
    server.use(early);
    expectRemedy(await attempt(server.port, { ca: ca.caPem }), /not valid yet: set this VM's clock/);
    server.use(foreign);
    expectRemedy(await attempt(server.port, { ca: ca.caPem }), /for another name: use a name of the cert/);
    server.use(good);
    expect(await attempt(server.port, { ca: ca.caPem })).toBeUndefined();
  });

  test("a server without TLS is never spoken to in the clear", async () => {
    const heard: Buffer[] = [];
    const port = await listen(
      createTcpServer((socket) => {
        socket.on("error", () => {});
        socket.on("data", (bytes) => {
          heard.push(bytes);
          socket.end("HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n");
        });
      }),
    );
    expectRemedy(await attempt(port, { ca: ca.caPem }), /does not speak TLS: use the port that does/);
    // 22 = a TLS handshake record; nothing else was said.
    expect(heard.every((bytes) => bytes[0] === 22)).toBe(true);
    expect(heard.length).toBeGreaterThan(0);
  });

  test("a server that speaks TLS 1.1 at most", async () => {
    const server = await lab(good, oldTls);
    expectRemedy(await attempt(server.port, { ca: ca.caPem }), /does not speak TLS 1\.2 or newer/);
  });

  test("a server of TLS 1.2 is still fine", async () => {
    const server = await lab(good, { maxVersion: "TLSv1.2" });
    expect(await attempt(server.port, { ca: ca.caPem })).toBeUndefined();
    expect(server.connections[0]?.protocol).toBe("TLSv1.2");
  });

  test("a server that takes the connection and never greets", async () => {
    const port = await listen(createTcpServer((socket) => void socket.on("error", () => {})));
    expectRemedy(await attempt(port, { ca: ca.caPem }), /within 1500 ms/);
  });

  test("a client certificate is shown when it is asked for; without it the error says so", async () => {
    const server = await lab(good, { ca: ca.caPem, requestCert: true, rejectUnauthorized: true });
    const mine = await ca.issue({ hosts: [], commonName: "vm-1" });
    const foreign = await otherCa.issue({ hosts: [], commonName: "vm-1" });
    const remedy = /controller\.tls\.cert_path/;
    expectRemedy(await attempt(server.port, { ca: ca.caPem }), remedy);
    const stranger = await attempt(server.port, {
      ca: ca.caPem,
      cert: foreign.certPem,
      key: foreign.keyPem,
    });
    expect(stranger).toMatchObject({ code: "controller_unreachable" });
    expect(server.connections).toEqual([]);
    expect(
      await attempt(server.port, { ca: ca.caPem, cert: mine.certPem, key: mine.keyPem }),
    ).toBeUndefined();
    expect(server.connections).toMatchObject([{ client: "vm-1" }]);
  });
});

test("a TLS server without HTTP/2 is named for what it is", async () => {
  const pair = { cert: good.certPem, key: good.keyPem };
  const refusing = createHttpsServer(pair, (_, response) => response.end());
  // Takes no part in ALPN, and so would be taken for whatever the client likes.
  const ignorant = createTlsServer(pair, (socket) => void socket.on("error", () => {}));
  for (const server of [refusing, ignorant]) {
    const error = await ways.grpc(`https://localhost:${await listen(server)}`, { ca: ca.caPem });
    expect(error).toMatchObject({ message: expect.stringMatching(/does not speak HTTP\/2/) });
  }
});

test("http:// to a server with TLS, and gRPC to a web server, end with a hint", async () => {
  const server = await lab(good);
  for (const way of [ways.grpc, ways.http]) {
    const error = await way(`http://localhost:${server.port}`, {});
    expect(error).toMatchObject({
      code: "controller_unreachable",
      message: expect.stringMatching(/http or https|TLS/),
    });
  }
  const port = await listen(createHttpServer((_, response) => response.end("hello")));
  expect(await ways.grpc(`http://localhost:${port}`, {})).toMatchObject({ code: "controller_unreachable" });
});

async function folderOf(files: Record<string, string>): Promise<(name: string) => string> {
  const folder = await mkdtemp(join(tmpdir(), "mig-tls-"));
  closers.push(() => rm(folder, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text);
  return (name) => join(folder, name);
}

test("the link outlives a replaced certificate, and comes back after the authority was replaced on disk", async () => {
  const server = await lab(good);
  const at = await folderOf({ "ca.pem": ca.caPem });
  const warnings: string[] = [];
  const ups: LinkUp[] = [];
  const downs: MigError[] = [];
  const tls = createTlsSource({ caPath: at("ca.pem") });
  const endpoint = `https://localhost:${server.port}`;
  const http = httpCalls(endpoint, { tls });
  closers.push(() => http.close());
  const link = keep(
    createChosenLink(
      {
        channel: "auto",
        speaker,
        http,
        grpcEndpoint: endpoint,
        tls,
        timing: quick,
        log: createLog({ level: "info", write: (line) => void warnings.push(line) }),
      },
      {
        onUp: (up) => void ups.push(up),
        onDown: (reason) => void downs.push(reason),
        onCommand: () => {},
        onGoAway: () => {},
        onRefused: () => {},
      },
    ),
  );
  const beat = { vmId: "vm-1", poolId: "pool-1", sentAtMs: 1 };
  link.open();
  await waitFor("the link", () => ups.length === 1);
  // Another certificate of another authority: who is connected stays connected …
  server.use(await otherCa.issue({ hosts }));
  expect(await link.sendHeartbeat(beat)).toBeDefined();
  expect(downs).toEqual([]);
  // … and who must connect again says what is wrong, once for each channel, and nothing gets through.
  server.streams[0]?.end();
  await waitFor("the end of the link", () => downs.length === 1);
  const seen = (): string[] => warnings.filter((line) => /controller\.ca_path/.test(line));
  await waitFor("warnings", () => seen().length >= 2);
  await expect(http.postHeartbeat(beat)).rejects.toMatchObject({ code: "controller_unreachable" });
  expect(seen()).toHaveLength(2);
  expect(ups).toHaveLength(1);
  await writeFile(at("new.pem"), ca.caPem + otherCa.caPem);
  await rename(at("new.pem"), at("ca.pem"));
  // Replaced between two attempts of one round, another channel may be the first; the best one takes over.
  await waitFor("the best link", () => link.channel() === "grpc");
  expect(await http.postHeartbeat(beat)).toBeDefined();
});

test("a client certificate that is rotated on disk is used from the next connection on, half a rotation is not", async () => {
  const server = await lab(good, { ca: ca.caPem, requestCert: true, rejectUnauthorized: true });
  const [first, second] = await Promise.all(
    ["first", "second"].map((commonName) => ca.issue({ hosts: [], commonName })),
  );
  const at = await folderOf({
    "ca.pem": ca.caPem,
    "vm.pem": first?.certPem ?? "",
    "vm.key": first?.keyPem ?? "",
  });
  const warnings: string[] = [];
  const tls = createTlsSource({
    caPath: at("ca.pem"),
    certPath: at("vm.pem"),
    keyPath: at("vm.key"),
    log: createLog({ level: "info", write: (line) => void warnings.push(line) }),
  });
  const client = createHttpClient({ endpoint: `https://localhost:${server.port}`, tls });
  closers.push(() => client.close());
  const call = (): Promise<unknown> => client.call({ method: "GET", path: "/x", timeoutMs: 1500 });
  await call();
  await call();
  expect(server.connections.map(({ client }) => client)).toEqual(["first"]);
  await writeFile(at("vm.pem"), second?.certPem ?? "");
  await call();
  await call();
  expect(server.connections).toHaveLength(1);
  expect(warnings).toHaveLength(1);
  expect(warnings[0]).toMatch(/does not belong to the key/);
  expect(warnings[0]).not.toMatch(/PRIVATE KEY/);
  await writeFile(at("vm.key"), second?.keyPem ?? "");
  await call();
  expect(server.connections.map(({ client }) => client)).toEqual(["first", "second"]);
});

test("files that cannot be used at the start are said with their setting", async () => {
  const at = await folderOf({
    "ca.pem": ca.caPem,
    "vm.pem": good.certPem,
    "other.key": "",
    "text.pem": "hi",
  });
  const other = await ca.issue({ hosts });
  await writeFile(at("other.key"), other.keyPem);
  const wrong = (files: Parameters<typeof createTlsSource>[0], words: RegExp): Promise<void> =>
    expect(createTlsSource(files)()).rejects.toMatchObject({
      code: "settings_invalid",
      message: expect.stringMatching(words),
    });
  await wrong({ caPath: at("none.pem") }, /none\.pem cannot be read: check controller\.ca_path/);
  await wrong({ caPath: at("text.pem") }, /no PEM certificate: check controller\.ca_path/);
  await wrong({ certPath: at("vm.pem"), keyPath: at("vm.pem") }, /no PEM private key.*key_path/);
  await wrong({ certPath: at("vm.pem"), keyPath: at("other.key") }, /does not belong to the key/);
  expect(() => createTlsSource({ certPath: at("vm.pem") })).toThrow(/set both or none/);
  expect(await createTlsSource({})()).toEqual({});
});
