import { type ClientHttp2Session, connect } from "node:http2";
import { commandService } from "@mig/protocol/grpc";
import { connectMessage } from "./connect-message.ts";

/**
 * `idle-clients.ts PORT STREAMS PREFIX`: so many gRPC streams, each on a connection of its own, that say who they are
 * and nothing more. Plain HTTP/2 and not the gRPC library, which would cost the machine more here than what is measured.
 */
const [port = "", streams = "0", prefix = ""] = process.argv.slice(2);
const atOnce = 32;
const sessions: ClientHttp2Session[] = [];
let next = 0;
await Promise.all(
  Array.from({ length: atOnce }, async () => {
    while (next < Number(streams)) await open(`${prefix}-${next++}`);
  }),
);
process.stdout.write(`${JSON.stringify({ msg: "connected", streams: sessions.length })}\n`);

function open(vmId: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const session = connect(`http://127.0.0.1:${port}`);
    session.on("error", reject);
    const stream = session.request({
      ":method": "POST",
      ":path": commandService.streamCommands.path,
      "content-type": "application/grpc",
      te: "trailers",
    });
    stream.on("error", reject);
    stream.once("data", () => {
      sessions.push(session);
      resolve();
    });
    stream.on("data", () => {});
    const message = connectMessage(vmId);
    const head = Buffer.alloc(5);
    head.writeUInt32BE(message.length, 1);
    stream.write(Buffer.concat([head, message]));
  });
}
