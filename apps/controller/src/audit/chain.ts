import { createHash } from "node:crypto";
import type { JsonObject } from "@mig/protocol";
import { toJsonParameter } from "../store/table.ts";

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

/** Where a chain was said to end. */
export interface Head {
  readonly seq: number;
  readonly hash: string;
}

export interface Link {
  readonly orgId: string;
  readonly seq: number;
  /** The text that was hashed: JSON of the act with its number and time. */
  readonly entry: string;
  readonly hash: string;
}

/** What follows the number and the time in an entry's text, from the quote that ends the time. */
export function restOf({ orgId, actor, action, object, result, address, requestId, details }: Act): string {
  const rest = { org: orgId, actor, action, object, result, address, request_id: requestId, details };
  return `",${toJsonParameter(rest).slice(1)}`;
}

export function hashOf(before: string, entry: string): string {
  return createHash("sha256").update(before).update("\n").update(entry).digest("hex");
}

/** Follows one chain from its beginning, page by page: it keeps no more of it than its last hash. */
export class ChainCheck {
  #seq = 0;
  #hash = firstHash;
  #problem: string | undefined;

  /** What was followed so far; the next page begins after it. */
  get seq(): number {
    return this.#seq;
  }

  /** The first thing that is wrong. */
  get problem(): string | undefined {
    return this.#problem;
  }

  take(page: Iterable<Link>): void {
    for (const { seq, entry, hash } of page) {
      if (this.#problem !== undefined) return;
      const due = this.#seq + 1;
      if (seq !== due) this.#problem = `entry ${due} is missing: the next one is ${seq}`;
      else if (hashOf(this.#hash, entry) !== hash)
        this.#problem = `entry ${due} is not what was written, or what stood before it is not`;
      else {
        this.#seq = seq;
        this.#hash = hash;
      }
    }
  }

  /** A chain that was cut off at its end is whole as far as it goes; only its head knows. */
  end(head: Head): void {
    if (this.#problem === undefined && (head.seq !== this.#seq || head.hash !== this.#hash))
      this.#problem = `the chain ends at ${this.#seq}; it ended at ${head.seq} before`;
  }
}
