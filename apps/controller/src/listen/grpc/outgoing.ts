import type { ServerDuplexStream } from "@grpc/grpc-js";
import type { ControllerMessage } from "@mig/protocol";
import { encodeControllerMessage } from "@mig/protocol/proto";

/** What may wait for a peer that does not read; more than that and it counts as a slow consumer. */
const waitingBytesMax = 1024 * 1024;
const waitingMessagesMax = 256;

/** The writing half of a stream. */
export class Outgoing {
  readonly #call: ServerDuplexStream<Uint8Array, Uint8Array>;
  #bytes = 0;
  #messages = 0;

  constructor(call: ServerDuplexStream<Uint8Array, Uint8Array>) {
    this.#call = call;
  }

  /** False when the peer is too slow to be told more. */
  send(message: ControllerMessage): boolean {
    if (!this.#call.writable) return true; // the stream is ending; its session is told of that separately
    const bytes = encodeControllerMessage(message);
    if (this.#messages >= waitingMessagesMax || this.#bytes + bytes.length > waitingBytesMax) return false;
    this.#messages += 1;
    this.#bytes += bytes.length;
    this.#call.write(bytes, () => {
      this.#messages -= 1;
      this.#bytes -= bytes.length;
    });
    return true;
  }
}
