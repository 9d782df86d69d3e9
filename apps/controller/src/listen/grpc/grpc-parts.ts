import type { Log } from "@mig/kit";
import type { Desk } from "../../session/desk.ts";
import type { Gate } from "../auth.ts";
import type { SampleFiles } from "../sample-files.ts";

/** What a stream may touch. */
export interface GrpcParts {
  readonly desk: Desk;
  readonly gate: Gate;
  /** Whether agents of this pool are served without credentials (reference/go-agent-wire.md §14.1). */
  isLegacyPool(poolId: string): boolean;
  readonly log: Log;
  /** In sample mode only. */
  readonly files: SampleFiles | undefined;
  /** A connection without a stream is closed after this, and a stream that does not say whose it is. */
  readonly idleMs: number;
  /** How long the stream of a refused agent from before MIG is kept open. */
  readonly holdMs: number;
  /** How long to wait before something that failed for the moment is tried again. */
  readonly retryMs: number;
}
