import { pause } from "@mig/kit";
import { isRetryable } from "@mig/lifecycle";
import type { Connect, ControllerMessage, GoAway } from "@mig/protocol";
import type { Channel, Desk, Session, Wire } from "../../session/desk.ts";
import { toMigError } from "../error.ts";

export interface SessionSlotSettings {
  readonly channel: Channel;
  readonly desk: Desk;
  /** How long to wait before something that failed for the moment is tried again. */
  readonly retryMs: number;
  /** False when the peer is too slow to be told more. */
  send(message: ControllerMessage): boolean;
  onEnd(goAway: GoAway): void;
  /** Ends with the stream. */
  readonly signal: AbortSignal;
}

/** The session of a stream: none, or the one of its latest `connect`. */
export class SessionSlot {
  readonly #settings: SessionSlotSettings;
  #session: Session | undefined;
  #wire: Wire | undefined;

  constructor(settings: SessionSlotSettings) {
    this.#settings = settings;
  }

  get isOpen(): boolean {
    return this.#session !== undefined;
  }

  /**
   * Undefined when the stream has ended meanwhile. An agent from before MIG takes "not accepted" as final and never
   * asks again (reference/go-agent-wire.md §10), so for it a failure that passes is waited for.
   */
  async open(connect: Connect): Promise<Session | undefined> {
    this.close();
    const { desk, channel, retryMs, signal } = this.#settings;
    const wire = this.#newWire();
    while (!signal.aborted) {
      try {
        const session = await desk.open(connect, channel, wire);
        if (signal.aborted) session.close();
        else this.#session = session;
        return this.#session;
      } catch (thrown) {
        const error = toMigError(thrown);
        if (connect.protocolVersion > 0 || !isRetryable(error.category)) throw error;
        await pause(error.retryAfterMs ?? retryMs, signal);
      }
    }
    return undefined;
  }

  close(): void {
    this.#wire = undefined;
    this.#session?.close();
    this.#session = undefined;
  }

  /** Each session has its own: one that was replaced on the same stream must not end it. */
  #newWire(): Wire {
    const wire: Wire = {
      send: (message) => this.#wire !== wire || this.#settings.send(message),
      end: (goAway) => {
        if (this.#wire === wire) this.#settings.onEnd(goAway);
      },
    };
    this.#wire = wire;
    return wire;
  }
}
