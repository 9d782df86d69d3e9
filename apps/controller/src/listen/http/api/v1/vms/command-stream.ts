import { isId, maybe } from "@mig/protocol";
import { ErrorAnswer, StreamQuery, VmPath } from "@mig/protocol/schemas";
import { ask, asOwn, callerOf } from "../../../../auth.ts";
import { openAgentStream } from "../../../../sse/agent-stream.ts";
import { commonHeaders } from "../../../headers.ts";
import type { HttpParts } from "../../../http-app.ts";
import type { Routes } from "../../../routes.ts";

/** GET …/commands/stream: commands as server-sent events (seed 003, option 2). Answers go by POST …/ack as for polling. */
export function commandStream(routes: Routes, { desk, gate, log, signal, pingMs }: HttpParts): void {
  routes.get(
    "/api/v1/vms/:vm_id/commands/stream",
    {
      schema: {
        tags: ["agent"],
        params: VmPath,
        querystring: StreamQuery,
        response: { "4xx": ErrorAnswer },
      },
      onRequest: ask(gate, "vm.speak"),
    },
    async (request, reply) => {
      const { query } = request;
      const given = (text: string | undefined): string | undefined => (text === "" ? undefined : text);
      const lastSeen = [request.headers["last-event-id"]].flat()[0];
      await openAgentStream({ desk, log, pingMs, signal }, reply.raw, {
        connect: asOwn(callerOf(request), {
          vmId: request.params.vm_id,
          poolId: query.pool_id ?? "",
          version: query.version ?? "",
          protocolVersion: Number(query.protocol_version ?? 0),
          ...maybe("orgId", given(query.org_id)),
          ...maybe("incarnation", given(query.incarnation)),
          ...maybe("migletState", given(query.miglet_state)),
        }),
        // A cursor that we never gave out is as good as none.
        lastSeen: lastSeen !== undefined && isId(lastSeen) ? lastSeen : undefined,
        headers: commonHeaders(request.id),
        recheck: () => ask(gate, "vm.speak")(request),
      });
      reply.hijack();
    },
  );
}
