import { CommandIdPath, CommandList, CommandsQuery, CommandView, ErrorAnswer } from "@mig/protocol/schemas";
import { cancelCommand } from "../../../../operator/cancel-command.ts";
import { findCommand, listCommands } from "../../../../operator/lists.ts";
import { toCommandView } from "../../../../session/views.ts";
import { ask, callerOf, demand, originOf } from "../../../auth.ts";
import type { HttpParts } from "../../http-app.ts";
import { readFilter } from "../../read-query.ts";
import { renderCommand } from "../../render.ts";
import type { Routes } from "../../routes.ts";

/** The commands of all VMs. They are ordered at the VM: POST /api/v1/vms/{vm_id}/commands. */
export function commandLog(routes: Routes, { desk: { access }, gate }: HttpParts): void {
  if (access === undefined) return;
  const { store } = access;
  const tags = ["operator"];
  const one = { tags, params: CommandIdPath, response: { 200: CommandView, "4xx": ErrorAnswer } };

  routes.get(
    "/api/v1/commands",
    {
      schema: { tags, querystring: CommandsQuery, response: { 200: CommandList, "4xx": ErrorAnswer } },
      onRequest: ask(gate, "command.read"),
    },
    async (request) => {
      const { rows, nextCursor } = await listCommands(store, readFilter(callerOf(request), request.query));
      return { commands: rows.map((row) => renderCommand(toCommandView(row))), next_cursor: nextCursor };
    },
  );
  routes.get(
    "/api/v1/commands/:command_id",
    { schema: one, onRequest: ask(gate, "command.read") },
    async (request) => {
      const row = await findCommand(store, request.params.command_id);
      demand(callerOf(request), "command.read", { orgId: row.orgId });
      return renderCommand(toCommandView(row));
    },
  );
  routes.post(
    "/api/v1/commands/:command_id/cancel",
    { schema: one, onRequest: ask(gate, "command.cancel") },
    async (request) => {
      const row = await findCommand(store, request.params.command_id);
      demand(callerOf(request), "command.cancel", { orgId: row.orgId });
      return renderCommand(toCommandView(await cancelCommand(store, row, originOf(request))));
    },
  );
}
