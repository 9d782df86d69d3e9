import type { Log } from "@mig/kit";
import type { NatsNames, NatsPeer } from "@mig/protocol";
import type { JetStreamClient } from "@nats-io/jetstream";
import type { NatsConnection } from "@nats-io/transport-node";
import type { Desk } from "../../session/desk.ts";
import type { Standing } from "../stream/standing.ts";

/** What a session on NATS may touch. */
export interface NatsParts {
  readonly desk: Desk;
  readonly log: Log;
  readonly names: NatsNames;
  readonly connection: NatsConnection;
  readonly stream: JetStreamClient;
  /** For the commands of this session alone. */
  openCommandBox(vmId: string, session: number): Promise<void>;
  standingOf(peer: NatsPeer): Promise<Standing>;
  /** An agent that says nothing for so long is gone; it says something every few seconds. */
  readonly silentMs: number;
  /** How long to wait before something that failed for the moment is tried again. */
  readonly retryMs: number;
}
