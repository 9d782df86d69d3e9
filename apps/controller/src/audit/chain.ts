import { createHash } from "node:crypto";
import type { JsonObject } from "@mig/protocol";

/**
 * What was done, by whom, to what, and what came of it. One chain an organization: each entry's hash covers the one
 * before it, so that nothing can be taken out, put in or changed without every later hash being wrong.
 */
export interface Act {
  /** "-" is what belongs to no organization. */
  readonly orgId: string;
  /** `key:ci (mgk_…)`, `vm:vm-1`, `controller`. */
  readonly actor: string;
  /** A word of the access table, or what happened by itself: `vm.join`, `vm.conflict`. */
  readonly action: string;
  readonly object: string;
  readonly result: "done" | "refused";
  readonly address?: string;
  readonly requestId?: string;
  /** Never a secret. */
  readonly details?: JsonObject;
}

export const firstHash = "0".repeat(64);

export interface Link {
  readonly orgId: string;
  readonly seq: number;
  /** The text that was hashed: JSON of the act with its number and time. */
  readonly entry: string;
  readonly hash: string;
}

export function link(act: Act, seq: number, atMs: number, before: string): Link {
  const { orgId, actor, action, object, result, address, requestId, details } = act;
  const entry = JSON.stringify({
    seq,
    at: new Date(atMs).toISOString(),
    org: orgId,
    actor,
    action,
    object,
    result,
    address,
    request_id: requestId,
    details,
  });
  return { orgId, seq, entry, hash: hashOf(before, entry) };
}

export function hashOf(before: string, entry: string): string {
  return createHash("sha256").update(before).update("\n").update(entry).digest("hex");
}

/** The first thing that is wrong with a chain from its beginning, or undefined. */
export function findBreak(links: Iterable<Link>, head?: { seq: number; hash: string }): string | undefined {
  let before = firstHash;
  let seq = 0;
  for (const { seq: found, entry, hash } of links) {
    seq += 1;
    if (found !== seq) return `entry ${seq} is missing: the next one is ${found}`;
    if (hashOf(before, entry) !== hash)
      return `entry ${seq} is not what was written, or what stood before it is not`;
    before = hash;
  }
  if (head !== undefined && (head.seq !== seq || head.hash !== before))
    return `the chain ends at ${seq}; it ended at ${head.seq} before`;
  return undefined;
}
