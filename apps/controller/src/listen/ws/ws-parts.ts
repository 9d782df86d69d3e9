import type { Log } from "@mig/kit";
import type { Desk } from "../../session/desk.ts";
import type { SampleFiles } from "../sample-files.ts";

/** What a socket may touch. */
export interface WsParts {
  readonly desk: Desk;
  readonly log: Log;
  /** In sample mode only. */
  readonly files: SampleFiles | undefined;
  /** A client that knows our messages says `connect` within this. */
  readonly idleMs: number;
  /** Between pings; a peer that says nothing at all until the next one is gone. */
  readonly pingMs: number;
  /** How long to wait before something that failed for the moment is tried again. */
  readonly retryMs: number;
}

/** What the handshake has told. */
export interface Handshake {
  readonly vmId: string;
  /** It chose the subprotocol, so it says `connect` first and understands every kind of message. */
  readonly knowsKinds: boolean;
  /** Asks the guard of the route again: credentials may end while the socket is open. */
  recheck(): Promise<void>;
  /** What the VM says, with the pool and organization of its token; throws when it says others. */
  own<T extends { poolId: string; orgId?: string }>(message: T): T;
}
