import { MigError } from "@mig/lifecycle";
import { type EventAck, eventFromJson, toJsonObject, type VmEvent } from "@mig/protocol";
import { ErrorAnswer, EventAnswer, EventsBody, VmPath } from "@mig/protocol/schemas";
import { ask, asOwn, callerOf } from "../../../../auth.ts";
import type { HttpParts } from "../../../http-app.ts";
import type { Routes } from "../../../routes.ts";

/** POST …/events: one event, or `{"events": […]}`. Answered when they are stored, never before. */
export function events(routes: Routes, { desk, gate, files }: HttpParts): void {
  routes.post(
    "/api/v1/vms/:vm_id/events",
    {
      schema: {
        tags: ["agent"],
        params: VmPath,
        body: EventsBody,
        response: { 200: EventAnswer, "4xx": ErrorAnswer },
      },
      onRequest: ask(gate, "vm.speak", "bulk"),
    },
    async (request) => {
      const {
        params: { vm_id: vmId },
        body,
      } = request;
      const bodies: unknown[] = "events" in body && Array.isArray(body.events) ? body.events : [body];
      const who = callerOf(request);
      const list = bodies.map((one) => asOwn(who, eventFromJson(one, { vmId, nowMs: Date.now() })));
      for (const [i, event] of list.entries()) {
        files?.keep(vmId, { file: "event", type: event.type }, toJsonObject(bodies[i]));
      }
      const ack = await desk.recordEvents(vmId, list);
      refuseLoneEvent(list, ack);
      return answer(vmId, list, ack);
    },
  );
}

/** An agent that counts its events learns from `rejected` which one; whoever sends one without a number is told plainly. */
function refuseLoneEvent(list: readonly VmEvent[], ack: EventAck): void {
  const [only] = list;
  const [rejection] = ack.rejected;
  if (list.length === 1 && only?.seq === undefined && rejection !== undefined) {
    throw new MigError("refused", rejection.message);
  }
}

function answer(vmId: string, list: readonly VmEvent[], ack: EventAck): object {
  const [first] = list;
  const isCounted = list.some((event) => event.seq !== undefined);
  const isStart = first?.type === "vm_started" && list.length === 1;
  return {
    status: "acknowledged",
    acknowledged: true,
    vm_id: vmId,
    pool_id: first?.poolId ?? "",
    org_id: first?.orgId ?? "",
    message: isStart
      ? "VM started event acknowledged - MIGlet is ready for registration config"
      : "Event received and stored",
    timestamp: new Date().toISOString(),
    ...(isCounted ? { incarnation: ack.incarnation, up_to_seq: ack.upToSeq } : {}),
    ...(ack.rejected.length > 0 || isCounted ? { rejected: ack.rejected } : {}),
  };
}
