/**
 * The client's side of the HTTP/2 probes, started by http2.test.ts on Node and on Bun against one server: what it sees is
 * printed as a line of JSON each, and a line on its input is an order.
 *
 *   http2-client.ts <origin> <ca file or "">
 */
import { readFileSync } from "node:fs";
import { type ClientHttp2Stream, connect } from "node:http2";
import { createInterface } from "node:readline";
import { openSocket } from "../../src/link/open-socket.ts";

const [origin = "", caPath = ""] = process.argv.slice(2);
const say = (what: string, more: unknown = null): void =>
  void process.stdout.write(`${JSON.stringify([what, more])}\n`);

// As link/grpc-call.ts opens it.
const material = caPath === "" ? {} : { ca: readFileSync(caPath, "utf8") };
const socket = openSocket(new URL(origin), material);
socket.on("error", () => {});
socket.on("close", () => say("socket closed"));
const session = connect(origin, { createConnection: () => socket });
session.on("connect", () => say("connected", session.alpnProtocol ?? null));
session.on("error", (error: NodeJS.ErrnoException) => say("session error", error.code ?? error.message));
session.on("goaway", (code: number) => say("goaway", code));
session.on("close", () => say("session closed"));

let received = 0;
let stream: ClientHttp2Stream | undefined;
const orders: Record<string, (argument: string) => void> = {
  request(path) {
    received = 0;
    stream = session.request({ ":method": "POST", ":path": path });
    stream.on("response", (headers) => say("response", headers[":status"]));
    stream.on("trailers", (headers) => say("trailers", headers["grpc-status"]));
    stream.on("data", (chunk: Buffer) => {
      received += chunk.length;
    });
    stream.on("end", () => say("end", received));
    stream.on("error", (error: NodeJS.ErrnoException) => say("stream error", error.code ?? error.message));
    stream.on("close", () => say("stream closed", stream?.rstCode));
  },
  write: (bytes) =>
    void stream?.write(Buffer.alloc(Number(bytes)), (error) => say("written", error?.message)),
  waiting: () => say("waiting", stream?.writableLength),
  received: () => say("received", received),
  pause: () => void stream?.pause(),
  resume: () => void stream?.resume(),
  finish: () => void stream?.end(),
  ping: () => void session.ping((error, durationMs) => say("pong", error === null && durationMs >= 0)),
  destroy() {
    session.destroy();
    socket.destroy();
  },
};
createInterface({ input: process.stdin })
  .on("line", (line) => {
    const [order = "", argument = ""] = line.split(" ");
    orders[order]?.(argument);
  })
  .on("close", () => process.exit(0));
