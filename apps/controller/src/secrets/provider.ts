import type { Reference, Scheme } from "./reference.ts";
import type { SecretValue } from "./secret-value.ts";

/** One store behind one kind of reference. It asks and translates; caching, retries and alarms are the resolver's. */
export interface SecretProvider<R extends Reference = Reference> {
  /**
   * Asks the store. Rejects with `secret_unavailable` (another attempt may succeed, not before `retryAfterMs`),
   * `secret_forbidden` (the store knows us and says no, or does not know us) or `secret_invalid` (there is no such
   * secret, or not such a field of it).
   */
  fetch(reference: R, signal: AbortSignal): Promise<FetchedSecret>;
  /**
   * The version before `current`, where the store keeps it: while a key is being changed both are good. Undefined
   * when there is none, or when nobody may read it.
   */
  fetchPrevious?(reference: R, current: string, signal: AbortSignal): Promise<FetchedSecret | undefined>;
  /** How often asking again is cheap enough; default: the resolver's. */
  refreshMs?(reference: R): number | undefined;
  close?(): Promise<void> | void;
}

export interface FetchedSecret {
  value: SecretValue;
  /** As the store names it; of a store without versions, a digest of the content. */
  version: string;
}

export type Providers = { readonly [S in Scheme]?: SecretProvider<Extract<Reference, { scheme: S }>> };
