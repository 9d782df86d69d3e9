import { MigError } from "@mig/lifecycle";
import { maybe } from "@mig/protocol";
import {
  ErrorAnswer,
  JoinTokenBody,
  JoinTokenMade,
  JoinTokenPath,
  JoinTokensAnswer,
} from "@mig/protocol/schemas";
import {
  createJoinToken,
  findJoinToken,
  type JoinTokenRow,
  listJoinTokens,
  revokeJoinToken,
} from "../../../../join/join-tokens.ts";
import { ask, callerOf, demand, orgsOf, originOf } from "../../../auth.ts";
import type { HttpParts } from "../../http-app.ts";
import { readTimeMs, timeOrNull } from "../../render.ts";
import type { Routes } from "../../routes.ts";

const expiresInDefaultMs = 30 * 60_000;
const expiresInMaxMs = 7 * 86_400_000;
const usesMaxMax = 10_000;

/** Enrolment tokens: what a VM that has nothing else joins with. */
export function joinTokens(routes: Routes, { desk: { access }, gate }: HttpParts): void {
  if (access === undefined) return;
  const { store } = access;
  const tags = ["operator"];

  routes.get(
    "/api/v1/join-tokens",
    {
      schema: { tags, response: { 200: JoinTokensAnswer, "4xx": ErrorAnswer } },
      onRequest: ask(gate, "join_token.read"),
    },
    async (request) => ({
      join_tokens: (await listJoinTokens(store, orgsOf(callerOf(request)))).map(render),
    }),
  );
  routes.post(
    "/api/v1/join-tokens",
    {
      schema: { tags, body: JoinTokenBody, response: { 201: JoinTokenMade, "4xx": ErrorAnswer } },
      onRequest: ask(gate, "join_token.write"),
    },
    async (request, reply) => {
      const { body } = request;
      const orgId = access.orgOfPool(body.pool_id);
      demand(callerOf(request), "join_token.write", { orgId });
      const expiresInMs = readTimeMs("expires_in", body.expires_in) ?? expiresInDefaultMs;
      if (expiresInMs > expiresInMaxMs) throw new MigError("invalid_request", "expires_in is at most 7d");
      const usesMax = body.uses_max ?? 1;
      if (usesMax > usesMaxMax) throw new MigError("invalid_request", `uses_max is at most ${usesMaxMax}`);
      const { row, text } = await createJoinToken(
        store,
        {
          poolId: body.pool_id,
          orgId,
          usesMax,
          expiresInMs,
          ...maybe("vmId", body.vm_id),
          ...maybe("cidr", body.cidr),
        },
        { ...originOf(request), action: "join_token.create" },
      );
      return reply.status(201).send({ ...render(row), token: text });
    },
  );
  routes.delete(
    "/api/v1/join-tokens/:id",
    {
      schema: { tags, params: JoinTokenPath, response: { "4xx": ErrorAnswer } },
      onRequest: ask(gate, "join_token.write"),
    },
    async (request, reply) => {
      const row = await findJoinToken(store, request.params.id);
      if (row === undefined) throw new MigError("not_found", "there is no such enrolment token");
      demand(callerOf(request), "join_token.write", { orgId: row.orgId });
      await revokeJoinToken(store, row, { ...originOf(request), action: "join_token.revoke" });
      return reply.status(204).send();
    },
  );
}

function render(row: JoinTokenRow): object {
  return {
    id: row.id,
    pool_id: row.poolId,
    org_id: row.orgId,
    vm_id: row.vmId,
    cidr: row.cidr,
    uses_max: row.usesMax,
    uses: row.uses,
    created_by: row.createdBy,
    created_at: timeOrNull(row.createdAtMs),
    expires_at: timeOrNull(row.expiresAtMs),
    revoked_at: timeOrNull(row.revokedAtMs),
  };
}
