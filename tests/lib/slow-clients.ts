import { connect, type Socket } from "node:net";

/**
 * Clients that hold a connection with as little as they can (slowloris and its kin): the head of a request byte by
 * byte, its body byte by byte, or many requests at once whose answers are never read.
 */
export const slownesses = ["head", "body", "read"] as const;
export type Slowness = (typeof slownesses)[number];

export interface SlowClients {
  /** Connections that are open now, and those that the controller has closed so far. */
  counts(): { open: number; closed: Record<Slowness, number> };
  stop(): void;
}

export interface SlowClientsSettings {
  port: number;
  connections: number;
  /** How many are opened at a time, every tenth of a second. */
  rampMax?: number;
  /** Opens another one in place of one that was closed, as an attacker would. */
  comesBack?: boolean;
  byteEveryMs?: number;
}

const first: Readonly<Record<Slowness, string>> = {
  head: "GET /livez HTTP/1.1\r\nHost: a\r\nX-Slow: ",
  body: "POST /api/v1/join HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{",
  // The largest answer that nobody needs a token for, as often as one connection may ask at once.
  read: "GET /api/v1/openapi.json HTTP/1.1\r\nHost: a\r\n\r\n".repeat(16),
};

export function startSlowClients({
  port,
  connections,
  rampMax = 25,
  comesBack = false,
  byteEveryMs = 1_000,
}: SlowClientsSettings): SlowClients {
  const sockets = new Map<Socket, Slowness>();
  const closed: Record<Slowness, number> = { head: 0, body: 0, read: 0 };
  const waiting = Array.from({ length: connections }, (_, n) => slownesses[n % slownesses.length] ?? "head");

  const begin = (slowness: Slowness): void => {
    const socket = connect(port, "127.0.0.1", () => socket.write(first[slowness]));
    sockets.set(socket, slowness);
    if (slowness === "read") socket.pause();
    else socket.resume();
    socket.on("error", () => {});
    socket.on("close", () => {
      if (!sockets.delete(socket)) return;
      closed[slowness] += 1;
      if (comesBack) waiting.push(slowness);
    });
  };
  const ramp = (): void => {
    for (const slowness of waiting.splice(0, rampMax)) begin(slowness);
  };
  ramp();
  const ramping = setInterval(ramp, 100);
  const dripping = setInterval(() => {
    for (const [socket, slowness] of sockets) if (slowness !== "read" && socket.writable) socket.write("a");
  }, byteEveryMs);
  return {
    counts: () => ({ open: sockets.size, closed: { ...closed } }),
    stop() {
      clearInterval(ramping);
      clearInterval(dripping);
      const all = [...sockets.keys()];
      sockets.clear();
      for (const socket of all) socket.destroy();
    },
  };
}
