import { maybe, toJsonObject } from "@mig/protocol";
import {
  CommandView,
  ErrorAnswer,
  OrderBody,
  VmPath,
  VmsAnswer,
  VmsQuery,
  VmView,
} from "@mig/protocol/schemas";
import { fingerprintOf } from "../../../../operator/idempotency.ts";
import { actorOf, ask, callerOf, demand, orgsOf, originOf } from "../../../auth.ts";
import type { HttpParts } from "../../http-app.ts";
import { readOnceKey } from "../../read-query.ts";
import { readExpiryMs, renderCommand, renderVm } from "../../render.ts";
import type { Routes } from "../../routes.ts";

const pageDefault = 100;

/** What operators see of VMs, and what they may tell them. */
export function vms(routes: Routes, { desk, gate }: HttpParts): void {
  const tags = ["operator"];

  routes.get(
    "/api/v1/vms",
    {
      schema: { tags, querystring: VmsQuery, response: { 200: VmsAnswer, "4xx": ErrorAnswer } },
      onRequest: ask(gate, "vm.read"),
    },
    async (request) => {
      const { query } = request;
      const page = await desk.listVms({
        limit: Math.min(1_000, Number(query.limit ?? pageDefault)),
        ...maybe("orgIds", orgsOf(callerOf(request))),
        ...maybe("poolId", query.pool_id),
        ...maybe("orgId", query.org_id),
        ...maybe("state", query.state),
        ...maybe("reachability", query.reachability),
        ...maybe("cursor", query.cursor),
      });
      return { vms: page.vms.map(renderVm), next_cursor: page.nextCursor };
    },
  );

  routes.get(
    "/api/v1/vms/:vm_id",
    {
      schema: { tags, params: VmPath, response: { 200: VmView, "4xx": ErrorAnswer } },
      onRequest: ask(gate, "vm.read"),
    },
    async (request) => {
      const vm = await desk.findVm(request.params.vm_id);
      demand(callerOf(request), "vm.read", vm);
      return renderVm(vm);
    },
  );

  routes.post(
    "/api/v1/vms/:vm_id/commands",
    {
      schema: { tags, params: VmPath, body: OrderBody, response: { 201: CommandView, "4xx": ErrorAnswer } },
      onRequest: ask(gate, "vm.command"),
    },
    async (request, reply) => {
      const { params, body } = request;
      const who = callerOf(request);
      // A VM that has not been heard of belongs to nobody yet.
      if (orgsOf(who) !== undefined) demand(who, "vm.command", await desk.findVm(params.vm_id));
      const key = readOnceKey(request.headers["idempotency-key"]);
      const onceKey =
        key === undefined
          ? undefined
          : { caller: actorOf(who), key, fingerprint: fingerprintOf("vm.command", params.vm_id, body) };
      const command = await desk.queueCommand(params.vm_id, {
        type: body.type,
        parameters: toJsonObject(body.parameters),
        by: who === "anybody" ? "operator" : actorOf(who),
        origin: originOf(request),
        ...maybe("expiresInMs", readExpiryMs(body.expires_in)),
        ...maybe("once", onceKey),
      });
      return reply.status(201).send(renderCommand(command));
    },
  );
}
