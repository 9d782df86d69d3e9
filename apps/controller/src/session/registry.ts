import type { GoAway } from "@mig/protocol";
import type { Channel } from "./desk.ts";

/**
 * The live sessions of this replica: at most one for each VM. The newest wins, and a session that ends takes itself
 * out only if it is still the one that is registered: closing an old stream must never drop its successor
 * (reference/go-agent-wire.md S5, C12).
 */
export interface LiveSession {
  readonly vmId: string;
  readonly channel: Channel;
  readonly epoch: number;
  readonly incarnation: string;
  /** Something may be waiting for this VM: look. */
  wake(): void;
  end(goAway: GoAway): void;
}

export class Registry {
  readonly #sessions = new Map<string, LiveSession>();

  get(vmId: string): LiveSession | undefined {
    return this.#sessions.get(vmId);
  }

  get size(): number {
    return this.#sessions.size;
  }

  vmIds(): string[] {
    return [...this.#sessions.keys()];
  }

  add(session: LiveSession): void {
    const before = this.#sessions.get(session.vmId);
    if (before !== undefined && before.epoch > session.epoch) {
      session.end(superseded);
      return;
    }
    this.#sessions.set(session.vmId, session);
    before?.end(superseded);
  }

  remove(session: LiveSession): void {
    if (this.#sessions.get(session.vmId) === session) this.#sessions.delete(session.vmId);
  }

  wake(vmId: string): void {
    this.#sessions.get(vmId)?.wake();
  }

  /** Tells every agent to come back later, spread over `windowMs`, so that they do not all come at once. */
  endAll(reason: string, windowMs: number): void {
    for (const session of this.#sessions.values()) {
      session.end({ reason, reconnectAfterMs: Math.round(Math.random() * windowMs), deadlineMs: 0 });
    }
    this.#sessions.clear();
  }
}

/** The VM has a newer session. */
export const superseded: GoAway = { reason: "superseded", reconnectAfterMs: 0, deadlineMs: 0 };
