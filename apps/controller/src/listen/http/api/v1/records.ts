import {
  ErrorAnswer,
  EventsAnswer,
  EventsQuery,
  HeartbeatsAnswer,
  HeartbeatsQuery,
} from "@mig/protocol/schemas";
import { listEvents, listHeartbeats } from "../../../../operator/lists.ts";
import { ask, callerOf } from "../../../auth.ts";
import type { HttpParts } from "../../http-app.ts";
import { readFilter } from "../../read-query.ts";
import { timeOrNull } from "../../render.ts";
import type { Routes } from "../../routes.ts";

/** What VMs have told, as operators look it up. */
export function records(routes: Routes, { desk: { access }, gate }: HttpParts): void {
  if (access === undefined) return;
  const { store } = access;
  const tags = ["operator"];

  routes.get(
    "/api/v1/events",
    {
      schema: { tags, querystring: EventsQuery, response: { 200: EventsAnswer, "4xx": ErrorAnswer } },
      onRequest: ask(gate, "event.read"),
    },
    async (request) => {
      const { rows, nextCursor } = await listEvents(store, readFilter(callerOf(request), request.query));
      return {
        events: rows.map((row) => ({
          event_id: row.eventId,
          vm_id: row.vmId,
          pool_id: row.poolId,
          org_id: row.orgId,
          incarnation: row.incarnation,
          seq: row.seq,
          type: row.type,
          occurred_at: timeOrNull(row.occurredAtMs),
          received_at: timeOrNull(row.receivedAtMs),
          payload: row.payload,
          refused: row.refused,
        })),
        next_cursor: nextCursor,
      };
    },
  );
  routes.get(
    "/api/v1/heartbeats",
    {
      schema: { tags, querystring: HeartbeatsQuery, response: { 200: HeartbeatsAnswer, "4xx": ErrorAnswer } },
      onRequest: ask(gate, "heartbeat.read"),
    },
    async (request) => {
      const { rows, nextCursor } = await listHeartbeats(store, readFilter(callerOf(request), request.query));
      return {
        heartbeats: rows.map((row) => ({
          vm_id: row.vmId,
          pool_id: row.poolId,
          org_id: row.orgId,
          at: timeOrNull(row.atMs),
          body: row.body,
        })),
        next_cursor: nextCursor,
      };
    },
  );
}
