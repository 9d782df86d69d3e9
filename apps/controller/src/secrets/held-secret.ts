import type { Clock, Log } from "@mig/kit";
import type { SecretAlarm } from "./alarm.ts";
import type { FetchedSecret } from "./provider.ts";
import type { SecretValue } from "./secret-value.ts";

/** One version of a secret, as it is held. */
export interface HeldSecret {
  readonly value: SecretValue;
  readonly version: string;
  readonly fetchedAtMs: number;
}

/** While a key is being changed two versions are good: whoever is refused with the one tries the other. */
export interface SecretPair {
  readonly current: HeldSecret;
  readonly previous?: HeldSecret;
}

/** Throws, or rejects, when the value cannot be used. A MigError's message is quoted, so it must not quote the value. */
export type Validate = (value: SecretValue) => void | Promise<void>;

export interface GetOptions {
  /** Holds for this secret from now on, also for versions to come. */
  validate?: Validate;
  /** Ask the store for the version before the current one too; say so at the first `get`. */
  previous?: boolean;
}

export interface CacheRules {
  /** Asked again so often, give or take a tenth. */
  refreshMs: number;
  /** Three attempts share it. */
  fetchMs: number;
  /** Several who call `refresh` within it ask once. */
  refreshGapMs: number;
  staleAlarmMs: number;
  staleMaxMs: number;
  /** How long the version before is kept beside the current one. */
  previousMs: number;
  clock: Clock;
  random: () => number;
  log: Log;
  onAlarm: (alarm: SecretAlarm) => void;
}

/** Where one secret comes from. */
export interface SecretSource {
  text: string;
  refreshMs?: number | undefined;
  fetch(signal: AbortSignal): Promise<FetchedSecret>;
  fetchPrevious?(current: string, signal: AbortSignal): Promise<FetchedSecret | undefined>;
}

export interface SecretStatus {
  reference: string;
  version: string | undefined;
  previousVersion: string | undefined;
  /** Since the store last confirmed it. */
  ageMs: number | undefined;
  problem: string | undefined;
}

export interface CachedSecret {
  /**
   * What is held, while the store has confirmed it within `staleMaxMs`; else asks. A moment after a failure the same
   * error is the answer: a thousand VMs do not ask a dead store a thousand times.
   */
  get(options?: GetOptions): Promise<SecretPair>;
  /** Asks the store now; rejects when it cannot be asked, or has something that does not hold. */
  refresh(): Promise<SecretPair>;
  /** Called after each change from the first `get` on, not for what is held already. Must not throw. */
  watch(onChange: (pair: SecretPair) => void): () => void;
  status(): SecretStatus;
  close(): void;
}
