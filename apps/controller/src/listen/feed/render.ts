import type { FeedItem } from "../../feed/item.ts";
import { toCursor } from "../../feed/place.ts";
import { renderFleet } from "../http/api/v1/fleet/render.ts";

/** Written once, however many follow. */
const texts = new WeakMap<FeedItem, string>();

/** One item as server-sent event. JSON has no line ends, so one `data:` line holds it. */
export function renderItem(item: FeedItem): string {
  const known = texts.get(item);
  if (known !== undefined) return known;
  const data = JSON.stringify({ type: item.kind, at: new Date(item.atMs).toISOString(), ...contentOf(item) });
  const text = `event: ${item.kind}\nid: ${toCursor(item.next)}\ndata: ${data}\n\n`;
  texts.set(item, text);
  return text;
}

function contentOf(item: FeedItem): object {
  if (item.kind === "fleet") return { fleet: renderFleet(item.order) };
  const about = { vm_id: item.vmId, pool_id: item.poolId, org_id: item.orgId };
  if (item.kind !== "event") return { ...about, [item.kind]: item.body };
  const { event } = item;
  return {
    ...about,
    event: {
      event_id: event.eventId,
      type: event.type,
      incarnation: event.incarnation,
      seq: event.seq,
      occurred_at: new Date(event.occurredAtMs).toISOString(),
      payload: event.payload,
      refused: event.refused,
    },
  };
}
