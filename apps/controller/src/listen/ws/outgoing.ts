import { type ControllerMessage, controllerMessageToJson } from "@mig/protocol";
import type { WebSocket } from "ws";

/** What may wait for a peer that does not read; more than that and it counts as a slow consumer. */
const waitingBytesMax = 1024 * 1024;
const waitingMessagesMax = 256;

/** The writing half of a socket. */
export class Outgoing {
  readonly #socket: WebSocket;
  #messages = 0;

  constructor(socket: WebSocket) {
    this.#socket = socket;
  }

  /** False when the peer is too slow to be told more. */
  send(message: ControllerMessage): boolean {
    if (this.#socket.readyState !== this.#socket.OPEN) return true; // ending; its session is told of that separately
    const text = JSON.stringify(controllerMessageToJson(message));
    // Counts what the kernel has not taken, pongs included.
    const waitingBytes = this.#socket.bufferedAmount + Buffer.byteLength(text);
    if (this.#messages >= waitingMessagesMax || waitingBytes > waitingBytesMax) return false;
    this.#messages += 1;
    this.#socket.send(text, () => {
      this.#messages -= 1;
    });
    return true;
  }
}
