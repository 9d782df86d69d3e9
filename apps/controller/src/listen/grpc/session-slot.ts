import { pause } from "@mig/kit";
import { isRetryable } from "@mig/lifecycle";
import type { Connect, GoAway } from "@mig/protocol";
import type { Session, Wire } from "../../session/desk.ts";
import { toMigError } from "../error.ts";
import type { GrpcParts } from "./grpc-parts.ts";
import type { Outgoing } from "./outgoing.ts";

/** The session of a stream: none, or the one of its latest `connect`. */
export class SessionSlot {
  readonly #parts: Pick<GrpcParts, "desk" | "retryMs">;
  readonly #out: Outgoing;
  readonly #onEnd: (goAway: GoAway) => void;
  readonly #signal: AbortSignal;
  #session: Session | undefined;
  #wire: Wire | undefined;

  constructor(
    parts: Pick<GrpcParts, "desk" | "retryMs">,
    out: Outgoing,
    onEnd: (goAway: GoAway) => void,
    signal: AbortSignal,
  ) {
    this.#parts = parts;
    this.#out = out;
    this.#onEnd = onEnd;
    this.#signal = signal;
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
    const wire = this.#newWire();
    while (!this.#signal.aborted) {
      try {
        const session = await this.#parts.desk.open(connect, "grpc", wire);
        if (this.#signal.aborted) session.close();
        else this.#session = session;
        return this.#session;
      } catch (thrown) {
        const error = toMigError(thrown);
        if (connect.protocolVersion > 0 || !isRetryable(error.category)) throw error;
        await pause(error.retryAfterMs ?? this.#parts.retryMs, this.#signal);
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
      send: (message) => this.#wire !== wire || this.#out.send(message),
      end: (goAway) => {
        if (this.#wire === wire) this.#onEnd(goAway);
      },
    };
    this.#wire = wire;
    return wire;
  }
}
