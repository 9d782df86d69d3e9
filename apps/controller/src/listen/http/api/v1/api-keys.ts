import { maybe } from "@mig/protocol";
import { ApiKeyBody, ApiKeyMade, ApiKeyPath, ApiKeysAnswer, ErrorAnswer } from "@mig/protocol/schemas";
import type { ApiKeyRow } from "../../../../identity/api-keys.ts";
import { ask, callerOf, demand, orgsOf, originOf } from "../../../auth.ts";
import type { HttpParts } from "../../http-app.ts";
import { readTimeMs, timeOrNull } from "../../render.ts";
import type { Routes } from "../../routes.ts";

/** The keys of operators and of their programs. */
export function apiKeys(routes: Routes, { desk: { access }, gate }: HttpParts): void {
  if (access === undefined) return;
  const { apiKeys: keys } = access;
  const tags = ["operator"];

  routes.get(
    "/api/v1/api-keys",
    {
      schema: { tags, response: { 200: ApiKeysAnswer, "4xx": ErrorAnswer } },
      onRequest: ask(gate, "key.read"),
    },
    async (request) => {
      const orgs = orgsOf(callerOf(request));
      const rows = await keys.list();
      return { api_keys: rows.filter((row) => isWithin(row.orgs, orgs)).map(render) };
    },
  );
  routes.post(
    "/api/v1/api-keys",
    {
      schema: { tags, body: ApiKeyBody, response: { 201: ApiKeyMade, "4xx": ErrorAnswer } },
      onRequest: ask(gate, "key.write"),
    },
    async (request, reply) => {
      const { name, role, orgs, expires_in } = request.body;
      const who = callerOf(request);
      // Nobody gives away more than they have.
      for (const orgId of orgs ?? [undefined]) demand(who, "key.write", maybe("orgId", orgId));
      const origin = originOf(request);
      const { row, text } = await keys.create(
        {
          name,
          role,
          by: origin.actor,
          ...maybe("orgs", orgs),
          ...maybe("expiresInMs", readTimeMs("expires_in", expires_in)),
        },
        { ...origin, orgId: orgs?.length === 1 ? (orgs[0] ?? "-") : "-", action: "key.create" },
      );
      return reply.status(201).send({ ...render(row), key: text });
    },
  );
  routes.delete(
    "/api/v1/api-keys/:id",
    {
      schema: { tags, params: ApiKeyPath, response: { "4xx": ErrorAnswer } },
      onRequest: ask(gate, "key.write"),
    },
    async (request, reply) => {
      const { id } = request.params;
      const who = callerOf(request);
      const found = (await keys.list()).find((row) => row.id === id && isWithin(row.orgs, orgsOf(who)));
      if (found === undefined) demand(who, "key.write", {});
      await keys.revoke(id, {
        ...originOf(request),
        orgId: found?.orgs?.length === 1 ? (found.orgs[0] ?? "-") : "-",
        action: "key.revoke",
      });
      return reply.status(204).send();
    },
  );
}

/** Whoever has some organizations sees the keys for some of these. */
function isWithin(keyOrgs: readonly string[] | null, orgs: readonly string[] | undefined): boolean {
  return orgs === undefined || (keyOrgs?.every((org) => orgs.includes(org)) ?? false);
}

function render(row: ApiKeyRow): object {
  return {
    id: row.id,
    name: row.name,
    role: row.role,
    orgs: row.orgs,
    created_by: row.createdBy,
    created_at: timeOrNull(row.createdAtMs),
    expires_at: timeOrNull(row.expiresAtMs),
    last_used_at: timeOrNull(row.lastUsedAtMs),
    revoked_at: timeOrNull(row.revokedAtMs),
  };
}
