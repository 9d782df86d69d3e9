import type { ServerResponse } from "node:http";
import { type ControllerMessage, commandToJson, controllerMessageToJson } from "@mig/protocol";

/** What may wait for a peer that does not read; more than that and it counts as a slow consumer. */
const waitingBytesMax = 1024 * 1024;
const waitingEventsMax = 256;

/** The writing half of an event stream (https://html.spec.whatwg.org/multipage/server-sent-events.html). */
export class Outgoing {
  readonly #response: ServerResponse;
  #events = 0;

  constructor(response: ServerResponse) {
    this.#response = response;
  }

  /** Whether all that was written has left. */
  get isEmpty(): boolean {
    return this.#events === 0;
  }

  /** How long a client waits before it comes back by itself. */
  retryAfter(ms: number): boolean {
    return this.#write(`retry: ${Math.round(ms)}\n\n`);
  }

  /** So that nobody between takes the connection for dead, and the client can tell that it is not. */
  keepAlive(): boolean {
    return this.#write(": keep-alive\n\n");
  }

  /** False when the peer is too slow to be told more. */
  send(message: ControllerMessage): boolean {
    if (message.kind !== "command") {
      const { kind: _said, ...rest } = controllerMessageToJson(message);
      return this.#write(`event: ${message.kind}\ndata: ${JSON.stringify(rest)}\n\n`);
    }
    // JSON has no line ends, so one `data:` line holds it; seed 003 reads it from there.
    const data = JSON.stringify(commandToJson(message.command));
    return this.#write(`event: command\nid: ${message.command.id}\ndata: ${data}\n\n`);
  }

  #write(text: string): boolean {
    if (!this.#response.writable) return true; // ending; its session is told of that separately
    const waitingBytes = this.#response.writableLength + Buffer.byteLength(text);
    if (this.#events >= waitingEventsMax || waitingBytes > waitingBytesMax) return false;
    this.#events += 1;
    this.#response.write(text, () => {
      this.#events -= 1;
    });
    return true;
  }
}
