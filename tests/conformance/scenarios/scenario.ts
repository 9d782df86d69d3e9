import type { Peer, Way } from "../peer.ts";

/** What every channel must do. Each has a VM of its own; `peer` speaks for it with the agent's own link code. */
export interface Scenario {
  readonly name: string;
  /** Where it says nothing, and why. */
  readonly notOver?: Partial<Record<Way, string>>;
  play(peer: Peer): Promise<void>;
}
