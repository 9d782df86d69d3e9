import { connect as connectHttp2, constants, type OutgoingHttpHeaders } from "node:http2";
import { gzipSync } from "node:zlib";
import { commandService } from "@mig/protocol/grpc";
import { encodeAgentMessage } from "@mig/protocol/proto";
import { talk } from "./open-test-listeners.ts";

/** The lines of reliability-security §5.3 that no other test has, as data: docs/checklists/bad-input.md tells which has which. */
export interface HttpCase {
  readonly line: string;
  readonly name: string;
  readonly bytes: string;
  readonly status: number;
}

const events = "POST /api/v1/vms/vm-bad/events";
const vms = "/api/v1/vms";
const json = "Content-Type: application/json";
const good = '{"type":"error"}';

function http(
  line: string,
  name: string,
  status: number,
  first: string,
  headers: string[] = [],
  body?: string,
): HttpCase {
  const length = body === undefined ? [] : [`Content-Length: ${Buffer.byteLength(body)}`];
  const head = [`${first} HTTP/1.1`, "Host: a", "Connection: close", ...headers, ...length];
  return { line, name, status, bytes: `${head.join("\r\n")}\r\n\r\n${body ?? ""}` };
}
const body = (line: string, name: string, status: number, text: string, type = json): HttpCase =>
  http(line, name, status, events, [type], text);
const get = (line: string, name: string, status: number, path: string, headers: string[] = []): HttpCase =>
  http(line, name, status, `GET ${path}`, headers);

const manyKeys = `{"type":"error",${Array.from({ length: 50_000 }, (_, n) => `"k${n}":1`).join(",")}}`;

export const httpCases: readonly HttpCase[] = [
  http("H1", "no content type", 415, events, [], good),
  body("H1", "another content type", 415, good, "Content-Type: application/xml"),
  body("H1", "a vendor's +json", 415, good, "Content-Type: application/vnd.mig+json"),
  body("H1", "a content type that is none", 415, good, "Content-Type: json"),
  body("H2", "truncated", 400, good.slice(0, -1)),
  body("H2", "bytes after the end", 400, `${good}x`),
  body("H2", "two documents", 400, `${good}${good}`),
  body("H2", "a bare word", 400, "undefined"),
  body("H2", "NaN", 400, '{"type":"error","n":NaN}'),
  body("H2", "100,000 digits", 200, `{"type":"error","n":${"9".repeat(100_000)}}`),
  body("H2", "50,000 keys", 422, manyKeys),
  body("H2", "duplicate keys, the last one counts", 422, '{"type":"error","type":"../x"}'),
  ...["gzip", "br", "deflate", "zstd", "gzip, identity", "x"].map((encoding) =>
    http("H3", `content-encoding ${encoding}`, 415, events, [json, `Content-Encoding: ${encoding}`], good),
  ),
  http("H6", "TRACE", 405, "TRACE /health"),
  http("H6", "OPTIONS", 405, `OPTIONS ${vms}`),
  http("H6", "HEAD", 405, `HEAD ${vms}`),
  http("H6", "a method that nobody knows", 400, `BREW ${vms}`),
  http("H6", "another method in a header", 200, `GET ${vms}`, ["X-HTTP-Method-Override: DELETE"]),
  get("H7", "an upper-case path", 404, "/API/V1/VMS"),
  get("H7", "a trailing slash", 400, `${vms}/`),
  get("H7", "a dot segment", 400, "/api/./v1/vms"),
  get("H7", "matrix parameters", 404, "/api/v1/vms;a=b"),
  get("H7", "a URL of 64 KB", 431, `${vms}?x=${"a".repeat(65_536)}`),
  get(
    "H7",
    "2,000 query parameters",
    200,
    `${vms}?${Array.from({ length: 2_000 }, (_, n) => `a${n}=1`).join("&")}`,
  ),
  get("H7", "a parameter twice", 400, `${vms}?limit=1&limit=2`),
  ...["-1", "1e9", "abc", "0x10", "1.5", "%00"].map((limit) =>
    get("H7", `limit=${limit}`, 400, `${vms}?limit=${limit}`),
  ),
  get("H7", "SQL in a filter", 400, `${vms}?pool_id=a'%20or%201=1--`),
  http("H10", "a preflight", 405, `OPTIONS ${vms}`, [
    "Origin: https://evil.example",
    "Access-Control-Request-Method: POST",
  ]),
  get("H12", "a range", 200, "/health", ["Range: bytes=0-1"]),
  get("H12", "a condition", 200, "/health", [
    "If-None-Match: *",
    "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT",
  ]),
];

export async function askHttp(port: number, { bytes }: HttpCase): Promise<{ status: number; heard: string }> {
  const heard = await talk(port, bytes);
  return { status: Number(/^HTTP\/1\.1 (\d{3}) /.exec(heard)?.[1]), heard };
}

export interface GrpcCase {
  readonly line: string;
  readonly name: string;
  readonly bytes?: Buffer;
  readonly headers?: OutgoingHttpHeaders;
  /** Of grpc-status; a number above 100 is an HTTP status without one. */
  readonly code: number | readonly number[];
}

const message = (payload: Uint8Array, { compressed = 0, length = payload.length } = {}): Buffer => {
  const head = Buffer.alloc(5);
  head[0] = compressed;
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, payload]);
};
const varint = (n: number): number[] => (n < 128 ? [n] : [(n & 127) | 128, ...varint(Math.floor(n / 128))]);
const connect = encodeAgentMessage({
  kind: "connect",
  connect: { vmId: "vm-bad", poolId: "p", version: "t", protocolVersion: 1 },
});
/** A field within a field within a field. */
const nested = (depth: number): Buffer => {
  let inner = Buffer.alloc(0);
  for (let n = 0; n < depth; n += 1)
    inner = Buffer.concat([Buffer.from([0x0a, ...varint(inner.length)]), inner]);
  return inner;
};

export const grpcCases: readonly GrpcCase[] = [
  { line: "G1", name: "a message above the limit", bytes: message(Buffer.alloc(2 * 1024 * 1024)), code: 8 },
  { line: "G1", name: "a length of 4 GB", bytes: message(Buffer.alloc(9), { length: 0xffffffff }), code: 8 },
  {
    line: "G1",
    name: "a length that lies, then the end",
    bytes: message(Buffer.alloc(9), { length: 100 }),
    code: [0, 4, 13],
  },
  { line: "G1", name: "half a head, then the end", bytes: Buffer.alloc(3), code: [0, 4, 13] },
  {
    line: "G1",
    name: "compressed, without an encoding",
    bytes: message(connect, { compressed: 1 }),
    // grpc-js reads it as if it were not compressed, which it is not.
    code: [0, 13],
  },
  {
    line: "G1",
    name: "an unknown encoding",
    headers: { "grpc-encoding": "zip" },
    bytes: message(connect, { compressed: 1 }),
    code: 12,
  },
  {
    line: "G1",
    name: "a bomb of 64 MB",
    headers: { "grpc-encoding": "gzip" },
    bytes: message(gzipSync(Buffer.alloc(64 * 1024 * 1024)), { compressed: 1 }),
    code: 8,
  },
  { line: "G2", name: "groups that never end", bytes: message(Buffer.alloc(1_000, 0x0b)), code: [3, 13] },
  { line: "G2", name: "1,000 levels", bytes: message(nested(1_000)), code: [0, 3, 4, 13] },
  { line: "G2", name: "a varint that never ends", bytes: message(Buffer.alloc(64, 0xff)), code: [3, 13] },
  {
    line: "G2",
    name: "a field that claims 2 GB",
    bytes: message(Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0x07])),
    code: [3, 13],
  },
  { line: "G3", name: "a header of 64 KB", headers: { "x-huge": "a".repeat(65_536) }, code: [431, 13] },
  { line: "G3", name: "a timeout of 0", headers: { "grpc-timeout": "0S" }, code: [0, 4] },
  { line: "G3", name: "a timeout that is none", headers: { "grpc-timeout": "soon" }, code: 13 },
  { line: "G3", name: "another content type", headers: { "content-type": "text/plain" }, code: 415 },
  {
    line: "G5",
    name: "a service that is not there",
    headers: { ":path": "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo" },
    code: 12,
  },
  {
    line: "G5",
    name: "a method that is not there",
    headers: { ":path": `${commandService.streamCommands.path}x` },
    code: 12,
  },
  { line: "G5", name: "GET", headers: { ":method": "GET" }, code: [0, 13] },
];

/** The status of a call that says these bytes and then ends its half; 0 to 16, or that of HTTP. */
export function askGrpc(port: number, { headers = {}, bytes }: GrpcCase): Promise<number> {
  return new Promise((resolve, reject) => {
    const session = connectHttp2(`http://127.0.0.1:${port}`);
    session.on("error", () => {});
    const call = session.request({
      ":method": "POST",
      ":path": commandService.streamCommands.path,
      "content-type": "application/grpc",
      te: "trailers",
      ...headers,
    });
    let status: number | undefined;
    const look = (found: OutgoingHttpHeaders): void => {
      const code = found["grpc-status"];
      if (code !== undefined) status = Number(code);
      else if (status === undefined && found[":status"] !== 200 && found[":status"] !== undefined)
        status = Number(found[":status"]);
    };
    call
      .on("response", look)
      .on("trailers", look)
      .on("error", () => {});
    call.setTimeout(8_000, () => reject(new Error("the call was not ended")));
    call.on("close", () => {
      session.destroy();
      // Reset without a word: grpc-js does so with what is not gRPC at all, and Node with what is not HTTP/2.
      resolve(status ?? (call.rstCode === constants.NGHTTP2_NO_ERROR ? 0 : 13));
    });
    call.resume();
    if (bytes === undefined) call.end();
    else call.end(bytes);
  });
}

/**
 * Opens streams on one connection and resets each at once (CVE-2023-44487). The streams name a method that is not
 * there: answering one that is gone already is what ended the process (listen/grpc/reset-proof-server.ts).
 */
export async function resetRapidly(port: number, streams: number): Promise<void> {
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  session.on("error", () => {});
  const closed = new Promise<void>((resolve) => session.on("close", resolve));
  for (let n = 0; n < streams && !session.destroyed; n += 1) {
    const stream = session.request({ ":method": "POST", ":path": "/x", "content-type": "application/grpc" });
    stream.on("error", () => {});
    stream.close(constants.NGHTTP2_CANCEL);
    if (n % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  session.close();
  await closed;
}
