/** Addresses at which no GitHub can be reached, each for its own reason; all are on this machine or nowhere. */
import { createServer, type Server, type Socket } from "node:net";
import { createTestCa } from "../tls/test-ca.ts";
import { startGithub } from "./github.ts";
import { ListeningPort, openDeafPort } from "./listening-port.ts";

export interface BadAddress {
  readonly name: string;
  /** What a client gets to see of it, as Node names it. */
  readonly reason: RegExp;
  /** Opens what answers badly there. Ask it with a client that trusts no other authorities than the system's. */
  open(): Promise<{ readonly apiUrl: string; close(): Promise<void> }>;
}

const nothing = async (): Promise<void> => {};

export const badAddresses: readonly BadAddress[] = [
  {
    name: "a name that does not resolve",
    reason: /ENOTFOUND|EAI_AGAIN/,
    // Reserved to never exist (RFC 6761 §6.4).
    open: async () => ({ apiUrl: "https://api.github.invalid", close: nothing }),
  },
  {
    name: "a port where nobody listens",
    reason: /ECONNREFUSED/,
    async open() {
      const port = await ListeningPort.open(createServer());
      await port.close();
      return { apiUrl: `http://127.0.0.1:${port.number}`, close: nothing };
    },
  },
  {
    name: "a port where connections hang",
    reason: /TIMEOUT|Timeout/,
    async open() {
      const { port, close } = await openDeafPort();
      return { apiUrl: `http://127.0.0.1:${port}`, close };
    },
  },
  {
    name: "a server that accepts and says nothing",
    reason: /TIMEOUT|Timeout/,
    open: () => openTcp("http", () => {}),
  },
  {
    name: "a server that does not speak HTTP",
    reason: /HPE_|Parse Error|Response does not match|UND_ERR/i,
    open: () =>
      openTcp("http", (server) => server.on("connection", (socket) => socket.end("220 mail ready\r\n"))),
  },
  {
    name: "a server that does not speak TLS",
    reason: /SSL|EPROTO|wrong version|ECONNRESET/i,
    open: () =>
      openTcp("https", (server) =>
        server.on("connection", (socket) => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n")),
      ),
  },
  {
    name: "a certificate of an authority that nobody trusts",
    reason: /SELF_SIGNED|UNABLE_TO_/,
    open: openTls,
  },
];

async function openTls() {
  const authority = await createTestCa();
  const { certPem: cert, keyPem: key } = await authority.issue({ hosts: ["127.0.0.1"] });
  const github = await startGithub({ tls: { cert, key } });
  return { apiUrl: github.url, close: () => github.close() };
}

async function openTcp(scheme: "http" | "https", prepare: (server: Server) => void) {
  const server = createServer();
  prepare(server);
  const open = new Set<Socket>();
  server.on("connection", (socket) => {
    open.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => open.delete(socket));
  });
  const port = await ListeningPort.open(server);
  return {
    apiUrl: `${scheme}://127.0.0.1:${port.number}`,
    async close() {
      for (const socket of open) socket.destroy();
      await port.close();
    },
  };
}
