import { MigError } from "@mig/lifecycle";
import { maybe } from "@mig/protocol";
import type { ListFilter } from "../../operator/lists.ts";
import { orgsOf, type Who } from "../auth.ts";

const pageDefault = 100;

/** What the operator lists are asked with; see ListQuery. */
export interface ListWords {
  vm_id?: string;
  pool_id?: string;
  org_id?: string;
  type?: string;
  state?: string;
  since?: string;
  until?: string;
  limit?: string;
  cursor?: string;
}

/** Cut to what the caller may see, whatever is asked for. */
export function readFilter(who: Who, query: ListWords): ListFilter {
  return {
    limit: Math.min(1_000, Number(query.limit ?? pageDefault)),
    ...maybe("orgIds", orgsOf(who)),
    ...maybe("vmId", query.vm_id),
    ...maybe("poolId", query.pool_id),
    ...maybe("orgId", query.org_id),
    ...maybe("type", query.type),
    ...maybe("state", query.state),
    ...maybe("sinceMs", readInstant("since", query.since)),
    ...maybe("untilMs", readInstant("until", query.until)),
    ...maybe("cursor", query.cursor),
  };
}

/** Four digits of a year: the database has no room for every date that JavaScript can read. */
export function readInstant(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const ms = /^\d{4}-\d\d-\d\d/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(ms))
    throw new MigError("invalid_request", `${name} is a time, as in 2026-11-21T08:00:00Z`);
  return ms;
}

export function readOnceKey(header: string | string[] | undefined): string | undefined {
  if (header === undefined) return undefined;
  if (typeof header === "string" && /^[!-~]{1,255}$/.test(header)) return header;
  throw new MigError("invalid_request", "Idempotency-Key is 1 to 255 printable characters without spaces");
}
