import { MigError } from "@mig/lifecycle";
import { maybe } from "@mig/protocol";
import {
  AuditAnswer,
  AuditQuery,
  AuditVerifyAnswer,
  AuditVerifyQuery,
  ErrorAnswer,
} from "@mig/protocol/schemas";
import { type AuditEntry, listAudit, readHead, readLinks } from "../../../../audit/audit.ts";
import { verifyChain } from "../../../../audit/verify.ts";
import { ask, callerOf, demand, orgsOf } from "../../../auth.ts";
import type { HttpParts } from "../../http-app.ts";
import { readInstant } from "../../read-query.ts";
import type { Routes } from "../../routes.ts";

const pageDefault = 100;

/** Who did what. */
export function audit(routes: Routes, { desk: { access }, gate }: HttpParts): void {
  if (access === undefined) return;
  const { store } = access;
  const tags = ["operator"];

  routes.get(
    "/api/v1/audit",
    {
      schema: { tags, querystring: AuditQuery, response: { 200: AuditAnswer, "4xx": ErrorAnswer } },
      onRequest: ask(gate, "audit.read"),
    },
    async (request, reply) => {
      const { query } = request;
      const who = callerOf(request);
      if (query.org_id !== undefined) demand(who, "audit.read", { orgId: query.org_id });
      const orgIds = query.org_id === undefined ? orgsOf(who) : [query.org_id];
      const limit = Math.min(1_000, Number(query.limit ?? pageDefault));
      const found = await listAudit(store, {
        limit: limit + 1,
        ...maybe("orgIds", orgIds),
        ...maybe("actor", query.actor),
        ...maybe("action", query.action),
        ...maybe("object", query.object),
        ...maybe("sinceMs", readInstant("since", query.since)),
        ...maybe("untilMs", readInstant("until", query.until)),
        ...maybe("cursor", query.cursor === undefined ? undefined : readCursor(query.cursor)),
      });
      const entries = found.slice(0, limit);
      const last = entries.at(-1);
      const next = found.length > limit && last !== undefined ? cursorOf(last) : null;
      if (query.format !== "ndjson") return { entries: entries.map(render), next_cursor: next };
      if (next !== null) void reply.header("x-next-cursor", next);
      return reply
        .type("application/x-ndjson")
        .serializer((text: string) => text)
        .send(entries.map((entry) => `${JSON.stringify(render(entry))}\n`).join("") as never);
    },
  );
  routes.get(
    "/api/v1/audit/verify",
    {
      schema: {
        tags,
        querystring: AuditVerifyQuery,
        response: { 200: AuditVerifyAnswer, "4xx": ErrorAnswer },
      },
      onRequest: ask(gate, "audit.read"),
    },
    async (request) => {
      const orgId = request.query.org_id ?? "-";
      demand(callerOf(request), "audit.read", { orgId });
      const { entries, head, problem } = await verifyChain({
        head: () => readHead(store, orgId),
        page: (after, upTo, limit) => readLinks(store, orgId, { after, upTo, limit }),
      });
      return { org_id: orgId, entries, head, ok: problem === undefined, problem: problem ?? null };
    },
  );
}

function render({ orgId, seq, entry, hash }: AuditEntry): object {
  return { org_id: orgId, seq, hash, ...(JSON.parse(entry) as object) };
}

function cursorOf({ atMs, orgId, seq }: AuditEntry): string {
  return Buffer.from(`audit:${atMs}:${seq}:${orgId}`).toString("base64url");
}

function readCursor(cursor: string): { atMs: number; orgId: string; seq: number } {
  const found = /^audit:(\d{1,16}):(\d{1,15}):([A-Za-z0-9._-]{1,128})$/.exec(
    Buffer.from(cursor, "base64url").toString("utf8"),
  );
  if (found === null) throw new MigError("invalid_request", "the cursor is not one that this list gave out");
  return { atMs: Number(found[1]), seq: Number(found[2]), orgId: found[3] ?? "" };
}
