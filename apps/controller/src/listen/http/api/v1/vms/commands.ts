import { parseDurationMs } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { answerFromJson, commandToJson, limits, maybe } from "@mig/protocol";
import {
  AckAnswer,
  AckBody,
  CommandPath,
  CommandsAnswer,
  ErrorAnswer,
  PollQuery,
  VmPath,
} from "@mig/protocol/schemas";
import type { FastifyReply, FastifyRequest } from "fastify";
import { type Asked, ask, asOwn, callerOf } from "../../../../auth.ts";
import { isWebSocket } from "../../../../ws/ws-edge.ts";
import type { HttpParts } from "../../../http-app.ts";
import type { Routes } from "../../../routes.ts";

type SocketRequest = Asked & Pick<FastifyRequest, "raw"> & { params: { vm_id: string } };

/**
 * GET …/commands (`?wait=25s` holds it; with `Upgrade: websocket` it becomes a socket, as …/commands/ws does), and the
 * acknowledgements that answer what it brought.
 */
export function commands(routes: Routes, { desk, gate, signal, ws }: HttpParts): void {
  const becomeSocket = (request: SocketRequest, reply: FastifyReply): void => {
    const recheck = (): Promise<void> => ask(gate, "vm.speak")(request);
    ws.accept(request.raw, reply.raw, {
      vmId: request.params.vm_id,
      recheck,
      own: (message) => asOwn(callerOf(request), message),
    });
    reply.hijack();
  };
  routes.get(
    "/api/v1/vms/:vm_id/commands/ws",
    {
      schema: { tags: ["agent"], params: VmPath, response: { "4xx": ErrorAnswer } },
      onRequest: ask(gate, "vm.speak"),
    },
    async (request, reply) => becomeSocket(request, reply),
  );
  routes.get(
    "/api/v1/vms/:vm_id/commands",
    {
      schema: {
        tags: ["agent"],
        params: VmPath,
        querystring: PollQuery,
        response: { 200: CommandsAnswer, "4xx": ErrorAnswer },
      },
      onRequest: ask(gate, "vm.speak"),
    },
    async (request, reply) => {
      if (isWebSocket(request)) return becomeSocket(request, reply);
      const { vm_id: vmId } = request.params;
      const { query } = request;
      // The client has gone, or we are going: nobody is held any longer.
      const gone = new AbortController();
      const leave = (): void => gone.abort();
      reply.raw.once("close", leave);
      signal.addEventListener("abort", leave, { once: true });
      if (signal.aborted) leave();
      try {
        const commands = await desk.poll(
          vmId,
          {
            waitMs: readWaitMs(query.wait),
            protocolVersion: Number(query.protocol_version ?? 0),
            ...maybe("incarnation", query.incarnation === "" ? undefined : query.incarnation),
            ...maybe("migletState", query.miglet_state === "" ? undefined : query.miglet_state),
          },
          gone.signal,
        );
        return { commands: commands.map(commandToJson), vm_id: vmId };
      } finally {
        signal.removeEventListener("abort", leave);
      }
    },
  );

  const ack = async (vmId: string, body: unknown, commandId?: string): Promise<object> => {
    const command = await desk.answer(vmId, answerFromJson(body, commandId), false);
    return { status: "acknowledged", vm_id: vmId, command_id: command.id, command_state: command.state };
  };
  const onRequest = ask(gate, "vm.speak");
  const response = { 200: AckAnswer, "4xx": ErrorAnswer };

  routes.post(
    "/api/v1/vms/:vm_id/commands/:command_id/ack",
    { schema: { tags: ["agent"], params: CommandPath, body: AckBody, response }, onRequest },
    async ({ params, body }) => ack(params.vm_id, body, params.command_id),
  );
  routes.post(
    "/api/v1/vms/:vm_id/commands/ack",
    { schema: { tags: ["agent"], params: VmPath, body: AckBody, response }, onRequest },
    async ({ params, body }) => ack(params.vm_id, body),
  );
}

function readWaitMs(text: string | undefined): number {
  if (text === undefined || text === "") return 0;
  const ms = parseDurationMs(text);
  if (ms === undefined) throw new MigError("invalid_request", 'wait is a duration, as in "25s"');
  return Math.min(ms, limits.commandWaitMsMax);
}
