import type { Log } from "@mig/kit";
import {
  type Command,
  type ControllerMessage,
  commandToJson,
  controllerMessageToJson,
  natsWords,
} from "@mig/protocol";
import type { NatsParts } from "./nats-parts.ts";

/** What may be on its way into the stream; more means that NATS does not take it. */
const waitingMax = 32;
const publishMs = 5_000;

/** The writing half of a session: answers go past the stream, to whoever listens now; commands go into it. */
export class Outgoing {
  readonly #parts: Pick<NatsParts, "connection" | "stream" | "names">;
  readonly #vmId: string;
  readonly #down: string;
  readonly #log: Log;
  #waiting = 0;

  constructor(
    parts: Pick<NatsParts, "connection" | "stream" | "names">,
    vmId: string,
    down: string,
    log: Log,
  ) {
    this.#parts = parts;
    this.#vmId = vmId;
    this.#down = down;
    this.#log = log;
  }

  tell(message: ControllerMessage): void {
    this.#publish(JSON.stringify(controllerMessageToJson(message)));
  }

  say(word: keyof typeof natsWords): void {
    this.#publish(natsWords[word]);
  }

  /**
   * False when too many wait. The table moves a command on when the agent acknowledges it and not before; one that did
   * not get into the stream is delivered again when its acknowledgement is overdue.
   */
  command(command: Command, session: number): boolean {
    if (this.#waiting >= waitingMax) return false;
    this.#waiting += 1;
    const { stream, names } = this.#parts;
    // The agent takes nothing that does not name it: JetStream delivers to a subject that the asking client chose.
    const body = JSON.stringify({ kind: "command", vm_id: this.#vmId, ...commandToJson(command) });
    // Each session asks again for what has no result, under the same attempt: no double of the one before.
    const msgID = `${command.id}.${command.attempt ?? 0}.${session}`;
    stream
      .publish(names.commands(this.#vmId, session), body, { msgID, timeout: publishMs })
      .catch((error: unknown) =>
        this.#log.warn({ command_id: command.id, error }, "a command did not get into the stream"),
      )
      .finally(() => {
        this.#waiting -= 1;
      });
    return true;
  }

  #publish(text: string): void {
    const { connection } = this.#parts;
    if (connection.isClosed()) return;
    try {
      connection.publish(this.#down, text);
    } catch (error) {
      this.#log.debug({ error }, "an answer could not be sent");
    }
  }
}
