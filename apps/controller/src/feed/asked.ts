import type { Follower } from "./follower.ts";
import type { EventsAsked } from "./rows.ts";

/** Whose events somebody among them wants. */
export function askedBy(followers: Iterable<Follower>): EventsAsked {
  const vmIds: string[] = [];
  for (const { wanted } of followers) {
    if (!wanted.kinds.has("event")) continue;
    if (wanted.vmId === undefined) return "all";
    vmIds.push(wanted.vmId);
  }
  return vmIds.length === 0 ? "none" : vmIds;
}

/** Whether what was read for some is enough for others. */
export function covers(asked: EventsAsked, wanted: EventsAsked): boolean {
  if (asked === "all" || wanted === "none") return true;
  if (asked === "none" || wanted === "all") return false;
  return wanted.every((vmId) => asked.includes(vmId));
}
