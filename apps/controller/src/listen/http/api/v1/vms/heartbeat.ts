import { heartbeatFromJson, toJsonObject } from "@mig/protocol";
import { ErrorAnswer, HeartbeatAnswer, HeartbeatBody, VmPath } from "@mig/protocol/schemas";
import { ask, asOwn, callerOf } from "../../../../auth.ts";
import type { HttpParts } from "../../../http-app.ts";
import type { Routes } from "../../../routes.ts";

/** POST …/heartbeat. The answer sets the pace of the next one. */
export function heartbeat(routes: Routes, { desk, gate, files }: HttpParts): void {
  routes.post(
    "/api/v1/vms/:vm_id/heartbeat",
    {
      schema: {
        tags: ["agent"],
        params: VmPath,
        body: HeartbeatBody,
        response: { 200: HeartbeatAnswer, "4xx": ErrorAnswer },
      },
      onRequest: ask(gate, "vm.speak", "bulk"),
    },
    async (request) => {
      const {
        params: { vm_id: vmId },
        body,
      } = request;
      const beat = asOwn(callerOf(request), heartbeatFromJson(body, { vmId, nowMs: Date.now() }));
      files?.keep(vmId, { file: "heartbeat" }, toJsonObject(body));
      const reply = await desk.beat(vmId, beat);
      return {
        status: "received",
        vm_id: vmId,
        message: "Heartbeat received",
        next_interval_ms: reply.nextIntervalMs,
        server_time_ms: reply.serverTimeMs,
      };
    },
  );
}
