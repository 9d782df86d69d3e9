import { MigError } from "@mig/lifecycle";
import { maybe } from "@mig/protocol";
import { ErrorAnswer, FeedItem, FeedQuery } from "@mig/protocol/schemas";
import { type FeedKind, feedKinds } from "../../../../feed/item.ts";
import { readCursor } from "../../../../feed/place.ts";
import { ask, callerOf, orgsOf } from "../../../auth.ts";
import { openFeedStream } from "../../../feed/feed-stream.ts";
import { FeedSlots } from "../../../feed/slots.ts";
import { commonHeaders } from "../../headers.ts";
import type { HttpParts } from "../../http-app.ts";
import type { Routes } from "../../routes.ts";

/** GET /api/v1/feed: what changes, as it does, as server-sent events. */
export function feed(routes: Routes, { desk, gate, log, signal, pingMs }: HttpParts): void {
  if (desk.feed === undefined) return;
  const slots = new FeedSlots(desk.feed.limits);
  const parts = { feed: desk.feed.feed, slots, gate, log, signal, pingMs };
  routes.get(
    "/api/v1/feed",
    {
      schema: {
        tags: ["operator"],
        querystring: FeedQuery,
        response: {
          200: {
            description: "server-sent events: hello, vm, command, event, fleet, reset, dropped, go_away",
            content: { "text/event-stream": { schema: FeedItem } },
          },
          "4xx": ErrorAnswer,
        },
      },
      onRequest: ask(gate, "feed.read"),
    },
    async (request, reply) => {
      const { query } = request;
      const seen = [request.headers["last-event-id"]].flat()[0];
      const cursor = seen === undefined || seen === "" ? query.after : seen;
      await openFeedStream(parts, request, reply.raw, {
        from: cursor === undefined ? undefined : readCursor(cursor),
        wanted: {
          kinds: readKinds(query.types),
          ...maybe("orgIds", orgsOf(callerOf(request))),
          ...maybe("vmId", query.vm_id),
          ...maybe("poolId", query.pool_id),
          ...maybe("orgId", query.org_id),
        },
        headers: commonHeaders(request.id),
      });
      reply.hijack();
    },
  );
}

function readKinds(text: string | undefined): ReadonlySet<FeedKind> {
  if (text === undefined) return new Set(feedKinds);
  const kinds = text.split(",").map((word) => feedKinds.find((kind) => kind === word));
  const known = kinds.filter((kind) => kind !== undefined);
  if (known.length < kinds.length)
    throw new MigError("invalid_request", `types is some of ${feedKinds.join(", ")}, with commas between`);
  return new Set(known);
}
