import { maybe, toJsonObject } from "@mig/protocol";
import {
  ErrorAnswer,
  FleetBody,
  FleetList,
  FleetPath,
  FleetQuery,
  FleetTargets,
  FleetTargetsQuery,
  FleetView,
  type Static,
} from "@mig/protocol/schemas";
import { commandTypeOf } from "../../../../../commands/queue.ts";
import { createOrder } from "../../../../../fleet/create-order.ts";
import { findOrder, listOrders } from "../../../../../fleet/rows.ts";
import { steerOrder, steps } from "../../../../../fleet/steer-order.ts";
import { advance } from "../../../../../fleet/sweep-orders.ts";
import { listTargets } from "../../../../../fleet/targets.ts";
import type { NewFleetOrder, Selector } from "../../../../../fleet/words.ts";
import { fingerprintOf } from "../../../../../operator/idempotency.ts";
import { actorOf, ask, callerOf, demand, orgsOf, originOf, type Who } from "../../../../auth.ts";
import type { HttpParts } from "../../../http-app.ts";
import { readOnceKey } from "../../../read-query.ts";
import { readExpiryMs } from "../../../render.ts";
import type { Routes } from "../../../routes.ts";
import { renderFleet, renderTarget } from "./render.ts";

const pageDefault = 100;
const maxParallelDefault = 10;
const pauseAfterDefault = 3;

/** Orders for many VMs at once. */
export function fleetCommands(routes: Routes, { desk: { fleet }, gate, log }: HttpParts): void {
  if (fleet === undefined) return;
  const { store } = fleet;
  const tags = ["operator"];
  const one = { tags, params: FleetPath, response: { 200: FleetView, "4xx": ErrorAnswer } };

  routes.post(
    "/api/v1/fleet/commands",
    {
      schema: { tags, body: FleetBody, response: { 201: FleetView, "4xx": ErrorAnswer } },
      onRequest: ask(gate, "fleet.command"),
    },
    async (request, reply) => {
      const { body } = request;
      const who = callerOf(request);
      const { org_id: orgId } = body.selector;
      if (orgId !== undefined) demand(who, "fleet.command", { orgId });
      const key = readOnceKey(request.headers["idempotency-key"]);
      const onceKey =
        key === undefined
          ? undefined
          : { caller: actorOf(who), key, fingerprint: fingerprintOf("fleet.command", body) };
      const view = await createOrder(fleet, readOrder(body, who), {
        orgIds: orgsOf(who),
        origin: originOf(request),
        ...maybe("once", onceKey),
      });
      // The first are sent at once; should that fail, the next sweep does it.
      await advance(fleet, view.id).catch((error: unknown) =>
        log.warn({ error, fleet_order: view.id }, "a fleet order waits for the next sweep"),
      );
      return reply.status(201).send(renderFleet(await findOrder(store, view.id)));
    },
  );

  routes.get(
    "/api/v1/fleet/commands",
    {
      schema: { tags, querystring: FleetQuery, response: { 200: FleetList, "4xx": ErrorAnswer } },
      onRequest: ask(gate, "fleet.read"),
    },
    async (request) => {
      const { query } = request;
      const limit = Math.min(1_000, Number(query.limit ?? pageDefault));
      const rows = await listOrders(store, {
        limit: limit + 1,
        ...maybe("orgIds", orgsOf(callerOf(request))),
        ...maybe("state", query.state),
        ...maybe("before", query.cursor),
      });
      const shown = rows.slice(0, limit);
      return {
        fleet_commands: shown.map((row) => renderFleet(row)),
        next_cursor: rows.length > limit ? (shown.at(-1)?.id ?? null) : null,
      };
    },
  );

  /** Whoever lacks one of the organizations of its targets does not see the order. */
  async function findFor(who: Who, id: string, action: "fleet.read" | "fleet.command") {
    const view = await findOrder(store, id);
    for (const orgId of view.orgIds) demand(who, action, { orgId });
    return view;
  }

  routes.get(
    "/api/v1/fleet/commands/:id",
    { schema: one, onRequest: ask(gate, "fleet.read") },
    async (request) => renderFleet(await findFor(callerOf(request), request.params.id, "fleet.read")),
  );

  routes.get(
    "/api/v1/fleet/commands/:id/targets",
    {
      schema: {
        tags,
        params: FleetPath,
        querystring: FleetTargetsQuery,
        response: { 200: FleetTargets, "4xx": ErrorAnswer },
      },
      onRequest: ask(gate, "fleet.read"),
    },
    async (request) => {
      const { query } = request;
      const { id } = await findFor(callerOf(request), request.params.id, "fleet.read");
      const limit = Math.min(1_000, Number(query.limit ?? pageDefault));
      const rows = await listTargets(store, id, {
        limit: limit + 1,
        ...maybe("state", query.state),
        ...maybe("after", query.cursor === undefined ? undefined : Number(query.cursor)),
      });
      const shown = rows.slice(0, limit);
      return {
        targets: shown.map(renderTarget),
        next_cursor: rows.length > limit ? String(shown.at(-1)?.position ?? 0) : null,
      };
    },
  );

  for (const step of steps)
    routes.post(
      `/api/v1/fleet/commands/:id/${step}`,
      { schema: one, onRequest: ask(gate, "fleet.command") },
      async (request) => {
        const { id } = await findFor(callerOf(request), request.params.id, "fleet.command");
        await steerOrder(fleet, id, step, originOf(request));
        return renderFleet(await findOrder(store, id));
      },
    );
}

function readOrder(body: Static<typeof FleetBody>, who: Who): NewFleetOrder {
  return {
    selector: readSelector(body.selector),
    type: commandTypeOf(body.type),
    parameters: toJsonObject(body.parameters),
    maxParallel: body.max_parallel ?? maxParallelDefault,
    pauseAfterFailures: body.pause_after_failures ?? pauseAfterDefault,
    by: who === "anybody" ? "operator" : actorOf(who),
    ...maybe("expiresInMs", readExpiryMs(body.expires_in)),
  };
}

function readSelector(said: Static<typeof FleetBody>["selector"]): Selector {
  return {
    ...maybe("poolId", said.pool_id),
    ...maybe("orgId", said.org_id),
    ...maybe("states", said.states),
    ...maybe("agentVersion", said.agent_version),
    ...maybe("label", said.label),
    ...maybe("vmIds", said.vm_ids),
  };
}
