/** The port of the stand-in, which can be left for a while: then nobody gets through, as when GitHub is away. */
import { once } from "node:events";
import { type AddressInfo, connect, type Server, type Socket } from "node:net";
import { Worker } from "node:worker_threads";

const host = "127.0.0.1";
const establishMs = 100;
const fillersMax = 8;

/** A thread that listens and never accepts: what stands in its way is not slow, it is not there. */
const deafThread = `
const { workerData, parentPort } = require("node:worker_threads");
const server = require("node:net").createServer();
server.on("error", (error) => { throw error; });
server.listen({ port: workerData, host: "${host}", backlog: 1 }, () => {
  parentPort.postMessage(server.address().port);
  setImmediate(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0));
});`;

export class ListeningPort {
  readonly number: number;
  readonly #server: Server & { closeAllConnections?(): void };
  #back: (() => Promise<void>) | undefined;
  #timer: NodeJS.Timeout | undefined;
  #turn: Promise<void> = Promise.resolve();

  private constructor(server: Server, number: number) {
    this.#server = server;
    this.number = number;
  }

  static async open(server: Server, port = 0): Promise<ListeningPort> {
    await listen(server, port);
    return new ListeningPort(server, (server.address() as AddressInfo).port);
  }

  /** Cuts every connection, and lets nobody in for `forMs` or until `comeBack()`. */
  leave(how: "refused" | "hang", forMs: number): Promise<void> {
    return this.#inTurn(async () => {
      await this.#restore();
      await this.#close();
      const deaf = how === "hang" ? await openDeafPort(this.number) : undefined;
      this.#back = async () => {
        await deaf?.close();
        await listen(this.#server, this.number);
      };
      this.#timer = setTimeout(() => void this.comeBack(), forMs);
    });
  }

  comeBack(): Promise<void> {
    return this.#inTurn(() => this.#restore());
  }

  close(): Promise<void> {
    return this.#inTurn(async () => {
      await this.#restore();
      await this.#close();
    });
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const mine = this.#turn.then(work);
    this.#turn = mine.catch(() => {});
    return mine;
  }

  async #restore(): Promise<void> {
    clearTimeout(this.#timer);
    const back = this.#back;
    this.#back = undefined;
    await back?.();
  }

  async #close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections?.();
    await closed;
  }
}

export interface DeafPort {
  readonly port: number;
  close(): Promise<void>;
}

/** A port where a connection is never established: its queue is full and the kernel drops whoever knocks. */
export async function openDeafPort(port = 0): Promise<DeafPort> {
  const thread = new Worker(deafThread, { eval: true, workerData: port });
  const [opened] = (await once(thread, "message")) as [number];
  const fillers: Socket[] = [];
  for (let isFull = false; !isFull; ) {
    if (fillers.length >= fillersMax) throw new Error("This system's queue of connections does not fill up.");
    const filler = connect(opened, host);
    filler.on("error", () => {});
    fillers.push(filler);
    isFull = !(await isEstablished(filler));
  }
  return {
    port: opened,
    async close() {
      for (const filler of fillers) filler.destroy();
      await thread.terminate();
    },
  };
}

function isEstablished(socket: Socket): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), establishMs);
    socket.once("connect", () => {
      clearTimeout(timer);
      resolve(true);
    });
  });
}

async function listen(server: Server, port: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => {
      server.off("error", reject);
      resolve();
    });
  });
}
