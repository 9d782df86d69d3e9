import { type AddressInfo, connect, createServer, type Socket } from "node:net";

export type Direction = "up" | "down";

/** A TCP proxy that can become what networks become: a hole for one direction or both, or a trickle. */
export interface Proxy {
  port: number;
  /** Connections that were ever opened through it. */
  opened(): number;
  /** From now on nothing is forwarded in these directions; connections stay open, and new ones are taken. */
  swallow(...directions: Direction[]): void;
  /** From now on nobody reads in these directions: bytes pile up at whoever sends them, and none is lost. */
  stall(...directions: Direction[]): void;
  /** Every connection ends, and new ones end as soon as they are made. */
  shut(): void;
  /**
   * New connections are forwarded again, and what piled up goes on; connections that lost bytes stay dead, as a stateful
   * firewall would have it.
   */
  heal(): void;
  /** Every connection ends, with a reset; new ones are taken. */
  cut(): void;
  close(): Promise<void>;
}

/** `target`: a port, or whoever says for each connection which. */
export async function startProxy(target: number | (() => number)): Promise<Proxy> {
  const sockets = new Map<Socket, Direction>();
  let swallowed: Direction[] = [];
  let stalled: Direction[] = [];
  let isShut = false;
  let opened = 0;
  const cut = (): void => {
    for (const socket of sockets.keys()) socket.resetAndDestroy();
  };
  const server = createServer((near) => {
    opened += 1;
    if (isShut) {
      near.on("error", () => {}).resetAndDestroy();
      return;
    }
    const far = connect(typeof target === "number" ? target : target(), "127.0.0.1");
    const dead = new Set<Direction>();
    for (const [from, to, direction] of [
      [near, far, "up"],
      [far, near, "down"],
    ] as const) {
      sockets.set(from, direction);
      from.on("error", () => {});
      if (stalled.includes(direction)) from.pause();
      from.on("data", (bytes) => {
        if (swallowed.includes(direction)) dead.add(direction);
        if (!dead.has(direction)) to.write(bytes);
      });
      from.on("close", () => {
        sockets.delete(from);
        if (dead.size === 0 && swallowed.length === 0) to.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    opened: () => opened,
    swallow: (...directions) => {
      swallowed = directions;
    },
    stall: (...directions) => {
      stalled = directions;
      for (const [socket, direction] of sockets) if (stalled.includes(direction)) socket.pause();
    },
    shut() {
      isShut = true;
      cut();
    },
    heal: () => {
      swallowed = [];
      stalled = [];
      isShut = false;
      for (const socket of sockets.keys()) socket.resume();
    },
    cut,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets.keys()) socket.destroy();
      }),
  };
}
