import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import {
  createSecureServer,
  createServer,
  type Http2Server,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import type { AddressInfo, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { waitFor } from "@mig/kit";
import { createTestCa } from "@mig/sandbox";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { isBun } from "./start-probe.ts";

/**
 * What link/grpc-call.ts needs of node:http2, which Bun has written itself: the client runs on each runtime, the server
 * on the one that runs this test, so `npm test` and `npm run test:bun` see all four pairs.
 */
const root = fileURLToPath(new URL("../../../..", import.meta.url));
const client = fileURLToPath(new URL("./http2-client.ts", import.meta.url));
const bun = ["bun-linux-x64", "bun-linux-aarch64", "bun-darwin-aarch64", "bun-darwin-x64"]
  .map((name) => join(root, "node_modules/@oven", name, "bin/bun"))
  .find(existsSync);
const runtimes: [string, string | undefined][] = [
  ["Node", isBun ? join(root, "node_modules/.bin/node") : process.execPath],
  ["Bun", bun],
];

interface Peer {
  order(line: string): void;
  /** What it has said under this name, once it has. */
  says(what: string): Promise<unknown>;
  seen: [string, unknown][];
}

describe.each(runtimes)("an HTTP/2 client on %s", (_name, program) => {
  let server: Http2Server;
  let sessions: ServerHttp2Session[];
  let sockets: Socket[];
  let handle: (stream: ServerHttp2Stream) => void;
  let peer: Peer;
  let child: ChildProcess;

  const listen = async (made: Http2Server): Promise<number> => {
    server = made;
    sessions = [];
    sockets = [];
    server.on("connection", (socket: Socket) => void sockets.push(socket));
    server.on("session", (session) => {
      session.on("error", () => {});
      sessions.push(session);
    });
    server.on("stream", (stream: ServerHttp2Stream) => {
      stream.on("error", () => {});
      handle(stream);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return (server.address() as AddressInfo).port;
  };
  const start = (origin: string, caPath = ""): Peer => {
    child = spawn(program ?? "", ["--conditions=mig-source", client, origin, caPath], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    const seen: [string, unknown][] = [];
    createInterface({ input: child.stdout as NonNullable<typeof child.stdout> }).on("line", (line) =>
      seen.push(JSON.parse(line) as [string, unknown]),
    );
    return {
      seen,
      order: (line) => void child.stdin?.write(`${line}\n`),
      says: async (what) =>
        (
          await waitFor(`"${what}"; said: ${JSON.stringify(seen)}`, () => seen.find(([one]) => one === what))
        )[1],
    };
  };
  const end = (): void => {
    child.kill("SIGKILL");
    for (const session of sessions) session.destroy();
    server.close();
  };

  describe.skipIf(program === undefined)("in plaintext", () => {
    beforeEach(async () => {
      peer = start(`http://127.0.0.1:${await listen(createServer())}`);
      await peer.says("connected");
    });
    afterEach(end);

    test("answers a PING and hears the answer to its own", async () => {
      handle = (stream) => stream.respond({ ":status": 200 });
      peer.order("request /");
      expect(await peer.says("response")).toBe(200);
      const answered = new Promise<Buffer>((resolve, reject) =>
        sessions[0]?.ping(Buffer.from("12345678"), (error, _ms, payload) =>
          error === null ? resolve(Buffer.from(payload)) : reject(error),
        ),
      );
      expect(String(await answered)).toBe("12345678");
      peer.order("ping");
      expect(await peer.says("pong")).toBe(true);
    });

    test("hears GOAWAY, ends its stream in peace and then closes by itself", async () => {
      handle = (stream) => {
        stream.respond({ ":status": 200 }, { waitForTrailers: true });
        stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "14" }));
        sessions[0]?.goaway(0);
        stream.write("still here");
        setTimeout(() => stream.end(), 100);
      };
      peer.order("request /");
      expect(await peer.says("goaway")).toBe(0);
      expect(await peer.says("trailers")).toBe("14");
      expect(await peer.says("end")).toBe(10);
      peer.order("finish");
      expect(await peer.says("stream closed")).toBe(0);
      await peer.says("session closed");
      await peer.says("socket closed");
      expect(peer.seen.filter(([what]) => what.includes("error"))).toEqual([]);
    });

    test("is told that its stream was reset, and with which code", async () => {
      handle = (stream) => {
        stream.respond({ ":status": 200 });
        stream.write("x", () => stream.close(8));
      };
      peer.order("request /");
      expect(await peer.says("stream closed")).toBe(8);
      handle = (stream) => {
        stream.respond({ ":status": 200 });
        stream.end();
      };
      peer.order("request /");
      await waitFor(
        "the next stream of the session",
        () => peer.seen.filter(([what]) => what === "response").length === 2,
      );
    });

    test("reads on as it consumes: a large answer comes whole", async () => {
      const size = 5_000_000;
      handle = (stream) => {
        stream.respond({ ":status": 200 });
        stream.end(Buffer.alloc(size, 7));
      };
      peer.order("request /");
      expect(await peer.says("end")).toBe(size);
    });

    test("sends no more than the server takes, and knows how much waits: what the agent's bound is made of", async () => {
      let taken: ServerHttp2Stream | undefined;
      handle = (stream) => {
        taken = stream;
        stream.pause();
        stream.respond({ ":status": 200 });
      };
      peer.order("request /");
      await peer.says("response");
      for (let n = 0; n < 5; n += 1) peer.order("write 1000000");
      peer.order("waiting");
      // The window of a stream is 64 KiB (RFC 9113 §6.9.2); what the client's own buffers take is counted by it.
      expect(await peer.says("waiting")).toBeGreaterThan(4_000_000);
      expect(taken?.readableLength).toBeLessThan(300_000);
      let heard = 0;
      taken?.on("data", (chunk: Buffer) => {
        heard += chunk.length;
      });
      taken?.resume();
      await waitFor("all of it", () => heard === 5_000_000);
      expect(peer.seen.filter(([what, problem]) => what === "written" && problem !== null)).toEqual([]);
    });

    test("hears that the connection broke, once, with its stream closed", async () => {
      handle = (stream) => stream.respond({ ":status": 200 });
      peer.order("request /");
      await peer.says("response");
      sockets[0]?.destroy();
      await peer.says("stream closed");
      await peer.says("session closed");
      await peer.says("socket closed");
      expect(peer.seen.filter(([what]) => what === "session closed")).toHaveLength(1);
    });

    test("leaves no socket behind when it is destroyed", async () => {
      handle = (stream) => stream.respond({ ":status": 200 });
      peer.order("request /");
      await peer.says("response");
      peer.order("destroy");
      await waitFor("the end of the connection", () => sockets[0]?.destroyed === true);
      await peer.says("socket closed");
    });
  });

  describe.skipIf(program === undefined)("over TLS", () => {
    let folder: string;
    let cert: { certPem: string; keyPem: string };
    beforeAll(async () => {
      folder = await mkdtemp(join(tmpdir(), "mig-probe-"));
      const ca = await createTestCa();
      const other = await createTestCa("somebody else");
      await writeFile(join(folder, "ca.pem"), ca.caPem);
      await writeFile(join(folder, "other.pem"), other.caPem);
      cert = await ca.issue({ hosts: ["localhost", "127.0.0.1"] });
    });
    afterAll(() => rm(folder, { recursive: true, force: true }));
    beforeEach(async () => {
      handle = (stream) => {
        stream.respond({ ":status": 200 });
        stream.end("x");
      };
      await listen(createSecureServer({ cert: cert.certPem, key: cert.keyPem }));
    });
    afterEach(end);
    const origin = (): string => `https://localhost:${(server.address() as AddressInfo).port}`;

    test("agrees on h2 with a server of the private authority", async () => {
      peer = start(origin(), join(folder, "ca.pem"));
      peer.order("request /");
      expect(await peer.says("end")).toBe(1);
      expect(await peer.says("connected")).toBe("h2");
    });

    test("sends nothing to a server of another authority", async () => {
      peer = start(origin(), join(folder, "other.pem"));
      peer.order("request /");
      await peer.says("socket closed");
      expect(await peer.says("session error")).toMatch(/UNABLE_TO|SELF_SIGNED|CERT/);
      expect(peer.seen.map(([what]) => what)).not.toContain("response");
    });
  });
});
