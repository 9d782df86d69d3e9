import { connect, createServer, type Socket } from "node:net";

export interface Tunnel {
  /** On loopback; whatever connects to it is at the target. */
  port: number;
  close(): void;
}

/**
 * A way through an HTTP proxy to a TLS server (CONNECT, RFC 9110 §9.3.6), as a port on loopback: node:https can be
 * pointed at a port on every runtime, and at a socket of somebody else's not (Bun's takes none).
 */
export async function openTunnel(proxy: URL, target: { host: string; port: number }): Promise<Tunnel> {
  const sockets = new Set<Socket>();
  const keep = (socket: Socket): Socket => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.once("close", () => sockets.delete(socket));
    return socket;
  };
  const server = createServer((near) => {
    keep(near);
    const port = Number(proxy.port === "" ? 80 : proxy.port);
    const far = keep(connect({ host: proxy.hostname.replace(/^\[|\]$/g, ""), port }));
    far.once("connect", () => far.write(connectRequest(proxy, target)));
    let head = Buffer.alloc(0);
    const onData = (chunk: Buffer): void => {
      head = Buffer.concat([head, chunk]);
      const end = head.indexOf("\r\n\r\n");
      if (end === -1 && head.length < headBytesMax) return;
      far.off("data", onData);
      // Refused: the TLS client sees the connection end, and what it asked for is tried again or given up.
      if (!/^HTTP\/1\.[01] 2\d\d/.test(head.toString("latin1"))) {
        near.destroy();
        far.destroy();
        return;
      }
      const rest = head.subarray(end + 4);
      if (rest.length > 0) near.write(rest);
      near.pipe(far);
      far.pipe(near);
    };
    far.on("data", onData);
    far.once("close", () => near.destroy());
    near.once("close", () => far.destroy());
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const address = server.address();
  return {
    port: typeof address === "object" && address !== null ? address.port : 0,
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

const headBytesMax = 16 * 1024;

function connectRequest(proxy: URL, { host, port }: { host: string; port: number }): string {
  const target = `${host}:${port}`;
  const { username, password } = proxy;
  const plain = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  const auth =
    username === "" ? "" : `Proxy-Authorization: Basic ${Buffer.from(plain).toString("base64")}\r\n`;
  return `CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n${auth}\r\n`;
}
