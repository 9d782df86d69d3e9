import type { Unknown } from "@mig/protocol";

/** A few pages of runners and the installations of some organizations; what is asked most recently stays. */
const entriesMax = 64;

export interface KnownAnswer {
  etag: string;
  /** A copy: who asked may change what it got. */
  answer(): Unknown;
}

/**
 * What GitHub answered last to each GET, with its ETag. An answer of 304 to `If-None-Match` does not count against the
 * hour's limit, so a reconcile that finds nothing new is free.
 */
export function createEtagCache(): {
  get(key: string): KnownAnswer | undefined;
  set(key: string, etag: string | undefined, answer: Unknown): void;
} {
  const entries = new Map<string, KnownAnswer>();
  return {
    get: (key) => entries.get(key),
    set(key, etag, answer) {
      entries.delete(key);
      if (etag === undefined) return;
      const kept = structuredClone(answer);
      entries.set(key, { etag, answer: () => structuredClone(kept) });
      const oldest = entries.keys().next().value;
      if (entries.size > entriesMax && oldest !== undefined) entries.delete(oldest);
    },
  };
}
