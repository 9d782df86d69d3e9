import { type ErrorCode, MigError } from "@mig/lifecycle";
import { explainFailure } from "./explain-failure.ts";
import { openSocket } from "./open-socket.ts";
import type { TlsMaterial } from "./tls-material.ts";
import { createFrameReader, maskedFrame, opcodes } from "./ws-frames.ts";
import { createHandshake } from "./ws-handshake.ts";

const sendBytesMax = 4 * 1024 * 1024;
const lastWordsMs = 250;

export interface WsCallSettings {
  /** http or https; where the WebSocket is. */
  url: URL;
  token: string | undefined;
  tls: TlsMaterial;
  onMessage(text: string): void;
  /** Once, whatever ended the call. */
  onEnd(reason: MigError): void;
}

export interface WsCall {
  /** Resolves when the bytes were handed to the socket; rejects when the call has ended. */
  send(text: string): Promise<void>;
  /** Says that nothing more will be sent. */
  finish(): void;
  /** Ends the connection now. */
  destroy(): void;
}

/**
 * One WebSocket on a socket of our own. Neither runtime's client will do: that of Node is fetch's (13 MB on the VM, and
 * no way to give it an authority), and Bun puts its own in the place of the package `ws`.
 */
export function startWsCall({ url, token, tls, onMessage, onEnd }: WsCallSettings): WsCall {
  let hasEnded = false;
  let isOpen = false;
  let isClosing = false;
  const waiting: (() => void)[] = [];
  const socket = openSocket(url, tls, ["http/1.1"]);
  socket.setNoDelay(true);
  const handshake = createHandshake(url, token);

  const end = (reason: MigError): void => {
    if (hasEnded) return;
    hasEnded = true;
    onEnd(reason);
    for (const giveUp of waiting.splice(0)) giveUp();
    // Gives a last frame the time to leave; a peer that does not read must not keep the socket.
    socket.end();
    setTimeout(() => socket.destroy(), lastWordsMs).unref();
  };
  const endWith = (why: string, code: ErrorCode = "controller_unreachable"): void =>
    end(new MigError(code, `The WebSocket to ${url.host} ended: ${why}.`));
  const write = (opcode: number, payload: Buffer, done?: (error?: Error | null) => void): void => {
    socket.write(maskedFrame(opcode, payload), done);
  };
  const close = (code: number): void => {
    if (isClosing || hasEnded) return;
    isClosing = true;
    write(opcodes.close, Buffer.from([code >> 8, code & 0xff]));
  };

  const frames = createFrameReader({
    onText: (text) => {
      if (!hasEnded) onMessage(text);
    },
    onPing: (payload) => {
      if (!isClosing && socket.writableLength < sendBytesMax) write(opcodes.pong, payload);
    },
    onClose(code, reason) {
      close(1000);
      const words = reason === "" ? "" : `, ${reason.slice(0, 200)}`;
      endWith(`the controller closed it (${code}${words})`, codeOfClosing[code]);
    },
  });
  const read = (chunk: Buffer): void => {
    const problem = frames(chunk);
    if (problem === undefined) return;
    close(1002);
    endWith(problem);
  };

  socket.on("data", (chunk: Buffer) => {
    if (hasEnded) return;
    if (isOpen) return read(chunk);
    const outcome = handshake.read(chunk);
    if (outcome instanceof MigError) return end(outcome);
    if (outcome === undefined) return;
    isOpen = true;
    for (const go of waiting.splice(0)) go();
    if (outcome.length > 0) read(outcome);
  });
  socket.on("error", (error) => endWith(explainFailure(error)));
  const over = (): void => {
    if (isOpen || hasEnded) endWith("the connection broke");
    else end(handshake.end());
  };
  socket.on("end", over);
  socket.on("close", over);
  socket.write(handshake.request);

  const opened = (): Promise<void> =>
    isOpen || hasEnded ? Promise.resolve() : new Promise((resolve) => waiting.push(resolve));
  return {
    async send(text) {
      await opened();
      if (hasEnded) throw new MigError("controller_unreachable", "The WebSocket has ended.");
      const payload = Buffer.from(text);
      if (socket.writableLength + payload.length > sendBytesMax) {
        endWith("the controller does not read what is sent");
        throw new MigError("controller_unreachable", "The WebSocket was stuck and is given up.");
      }
      await new Promise<void>((resolve, reject) => {
        write(opcodes.text, payload, (error) => {
          if (error === null || error === undefined) resolve();
          else reject(new MigError("controller_unreachable", "The WebSocket broke.", { cause: error }));
        });
      });
    },
    finish: () => close(1000),
    destroy: () => endWith("closed by us"),
  };
}

/** Close codes that say something about this VM; every other end means: come back later. */
const codeOfClosing: Readonly<Record<number, ErrorCode>> = {
  4401: "unauthenticated",
  4403: "forbidden",
  4410: "incarnation_lost",
};
