import { once } from "node:events";
import {
  Agent,
  createServer,
  type IncomingMessage,
  type RequestOptions,
  request,
  type Server,
} from "node:http";
import { type AddressInfo, createServer as createTcpServer, type Socket } from "node:net";
import { waitFor } from "@mig/kit";
import { freePort } from "@mig/sandbox";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

/** What link/http-request.ts needs of node:http: one connection that is kept, and errors where there are errors. */
let server: Server;
let agent: Agent;
let sockets: Socket[];
let answer: (request: IncomingMessage, number: number) => string | undefined;

beforeEach(async () => {
  sockets = [];
  let number = 0;
  answer = () => "ok";
  server = createServer((incoming, response) => {
    incoming.resume();
    number += 1;
    const text = answer(incoming, number);
    if (text !== undefined) response.end(text);
  });
  server.on("connection", (socket) => void sockets.push(socket));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  agent = new Agent({ keepAlive: true, maxSockets: 1 });
});
afterEach(() => {
  agent.destroy();
  server.closeAllConnections();
  server.close();
});

const ask = async (options: RequestOptions = {}): Promise<string> => {
  const sent = request({
    host: "127.0.0.1",
    port: (server.address() as AddressInfo).port,
    agent,
    ...options,
  });
  sent.end();
  const [response] = (await once(sent, "response")) as [IncomingMessage];
  let text = "";
  for await (const chunk of response) text += String(chunk);
  return text;
};

describe("one connection for all", () => {
  test("carries one request after another, also those that were asked for at once", async () => {
    for (let n = 0; n < 5; n += 1) expect(await ask()).toBe("ok");
    expect(await Promise.all(Array.from({ length: 5 }, () => ask()))).toEqual(Array(5).fill("ok"));
    expect(sockets).toHaveLength(1);
  });

  test("is replaced when the server has closed it in the meantime", async () => {
    expect(await ask()).toBe("ok");
    const [first] = sockets;
    first?.end();
    await waitFor("its end", () => first?.destroyed === true);
    expect(await ask()).toBe("ok");
    expect(sockets).toHaveLength(2);
  });

  test("is gone when the agent is destroyed", async () => {
    await ask();
    agent.destroy();
    await waitFor("its end", () => sockets[0]?.destroyed === true);
  });
});

describe("a request that goes wrong", () => {
  test("is ended by its signal, and the connection with it", async () => {
    answer = () => undefined;
    const stop = new AbortController();
    const asked = ask({ signal: stop.signal });
    await waitFor("the connection", () => sockets.length === 1);
    stop.abort();
    await expect(asked).rejects.toThrow(expect.objectContaining({ name: "AbortError" }));
    await waitFor("its end", () => sockets[0]?.destroyed === true);
  });

  test("is an error when the connection breaks before the answer, also on a kept one", async () => {
    answer = (incoming, number) => {
      if (number !== 2) return "ok";
      incoming.socket.destroy();
      return undefined;
    };
    expect(await ask()).toBe("ok");
    await expect(ask()).rejects.toThrow(expect.objectContaining({ code: "ECONNRESET" }));
    expect(await ask()).toBe("ok");
  });

  test("is an error when the answer breaks off in the middle", async () => {
    const cut = createTcpServer((socket) => {
      socket.on("error", () => {});
      socket.once("data", () => socket.end("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this"));
    });
    await new Promise<void>((resolve) => cut.listen(0, "127.0.0.1", resolve));
    try {
      const { port } = cut.address() as AddressInfo;
      await expect(ask({ port, agent: false })).rejects.toThrow(
        expect.objectContaining({ code: "ECONNRESET" }),
      );
    } finally {
      cut.close();
    }
  });

  test("is refused with ECONNREFUSED where nobody listens", async () => {
    await expect(ask({ port: await freePort(), agent: false })).rejects.toThrow(
      expect.objectContaining({ code: "ECONNREFUSED" }),
    );
  });

  test("a destroyed answer ends the connection: an endless one is not read to its end", async () => {
    const { port } = server.address() as AddressInfo;
    server.removeAllListeners("request");
    let hasClosed = false;
    server.on("request", (_incoming, response) => {
      response.on("close", () => {
        hasClosed = true;
      });
      const more = (): void => {
        while (!response.destroyed && response.write("x".repeat(10_000)));
        if (!response.destroyed) response.once("drain", more);
      };
      more();
    });
    const sent = request({ host: "127.0.0.1", port, agent });
    sent.end();
    const [response] = (await once(sent, "response")) as [IncomingMessage];
    await once(response, "data");
    response.on("error", () => {});
    response.destroy();
    await waitFor("the end of the answer", () => hasClosed);
  });
});
