import { createServer } from "node:http";
import { fileURLToPath } from "node:url";
import { Client, credentials, Server, ServerCredentials, type ServerDuplexStream } from "@grpc/grpc-js";
import { commandService } from "@mig/protocol/grpc";
import { freePort } from "@mig/sandbox";
import { WebSocket, WebSocketServer } from "ws";
import { spawnProgram } from "../../tests/lib/spawn.ts";
import { type Channel, openPoster } from "./command-client.ts";

/** The size of a small command. */
const payload = Buffer.alloc(200, "x");
const bytes = (value: Buffer): Buffer => value;
/** The path is ours, so that the same clients can call it. */
const { path } = commandService.streamCommands;
const service = {
  stream: {
    path,
    requestStream: true as const,
    responseStream: true as const,
    requestSerialize: bytes,
    requestDeserialize: bytes,
    responseSerialize: bytes,
    responseDeserialize: bytes,
  },
};

/** A process that answers and does nothing else: gRPC on the first port, HTTP and WebSocket on the second. */
if (process.argv[1] === fileURLToPath(import.meta.url))
  await serve(Number(process.argv[2]), Number(process.argv[3]));

async function serve(grpcPort: number, httpPort: number): Promise<void> {
  const grpc = new Server();
  grpc.addService(service, {
    stream: (call: ServerDuplexStream<Buffer, Buffer>) => call.on("data", (data: Buffer) => call.write(data)),
  });
  const http = createServer((_request, response) => void response.end(payload));
  const sockets = new WebSocketServer({ server: http });
  sockets.on("connection", (socket) => socket.on("message", (data: Buffer) => socket.send(data)));
  await new Promise<void>((resolve) => http.listen(httpPort, "127.0.0.1", resolve));
  await new Promise((resolve) =>
    grpc.bindAsync(`127.0.0.1:${grpcPort}`, ServerCredentials.createInsecure(), resolve),
  );
  process.stdout.write(`${JSON.stringify({ msg: "bare" })}\n`);
}

/** Milliseconds of each round trip on a connection that is open. */
export async function bareRoundTrips(samples: number): Promise<Record<Channel, number[]>> {
  const [grpcPort, httpPort] = [await freePort(), await freePort()];
  const server = spawnProgram("bench/lib/bare-echo.ts", [String(grpcPort), String(httpPort)], {
    NODE_OPTIONS: "--conditions=mig-source",
  });
  await server.says("bare");

  const client = new Client(`127.0.0.1:${grpcPort}`, credentials.createInsecure());
  const call = client.makeBidiStreamRequest(path, bytes, bytes);
  call.on("error", () => {});
  const grpc = await timed(samples, () => {
    const answer = new Promise((resolve) => call.once("data", resolve));
    call.write(payload);
    return answer;
  });
  call.cancel();
  client.close();

  const socket = new WebSocket(`ws://127.0.0.1:${httpPort}`);
  await new Promise((resolve) => socket.once("open", resolve));
  const websocket = await timed(samples, () => {
    const answer = new Promise((resolve) => socket.once("message", resolve));
    socket.send(payload);
    return answer;
  });
  socket.terminate();

  const poster = openPoster(`http://127.0.0.1:${httpPort}`);
  const http = await timed(samples, () => poster.get("/"));
  poster.close();
  server.kill("SIGKILL");
  return { grpc, websocket, sse: http, poll: http };
}

async function timed(samples: number, trip: () => Promise<unknown>): Promise<number[]> {
  const times: number[] = [];
  for (let n = -50; n < samples; n += 1) {
    // As much apart as the commands are, or caches would be warmer here than there.
    await new Promise((resolve) => setTimeout(resolve, 2));
    const startMs = performance.now();
    await trip();
    if (n >= 0) times.push(performance.now() - startMs);
  }
  return times;
}
