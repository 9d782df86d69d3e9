import { type Action, MigError } from "@mig/lifecycle";
import { asObject, maybe, readText, type Unknown } from "@mig/protocol";
import { ErrorAnswer } from "@mig/protocol/schemas";
import type { EntryOf } from "../../../../github/directory-desk.ts";
import type { Kind } from "../../../../github/directory-rows.ts";
import { ask, callerOf, demand, orgsOf, originOf, type Who } from "../../../auth.ts";
import type { HttpParts } from "../../http-app.ts";
import type { Routes } from "../../routes.ts";
import { EntriesQuery, EntryPath, type EntrySchemas } from "./directory-schemas.ts";

const pageDefault = 100;

export interface DirectoryRoutes<K extends Kind> {
  kind: K;
  /** The key of the list in its answer. */
  listKey: string;
  schemas: EntrySchemas;
  render(entry: EntryOf<K>): object;
}

/** List, one, create, change and remove: the same for Apps, organizations and pools. */
export function directoryRoutes<K extends Kind>(
  routes: Routes,
  { desk: { directory }, gate }: HttpParts,
  { kind, listKey, schemas, render }: DirectoryRoutes<K>,
): void {
  if (directory === undefined) return;
  const tags = ["operator"];
  const { read, write } = actionsOf[kind];
  const reads = { onRequest: ask(gate, read) };
  const writes = { onRequest: ask(gate, write) };
  const find = async (who: Who, action: Action, id: string): Promise<EntryOf<K>> => {
    const entry = await directory.find(kind, id);
    demand(who, action, objectOf(kind, entry));
    return entry;
  };
  const path = `/api/v1/${kind}`;
  const answers = (status: number, schema: object) => ({ [status]: schema, "4xx": ErrorAnswer });

  routes.get(
    path,
    { schema: { tags, querystring: EntriesQuery, response: answers(200, schemas.answer) }, ...reads },
    async (request) => {
      const query = asObject(request.query) ?? {};
      const { entries, nextCursor } = await directory.list(kind, {
        limit: Math.min(1_000, Number(readText(query, "limit") ?? pageDefault)),
        ...maybe("orgIds", orgsOf(callerOf(request))),
        ...maybe("cursor", readText(query, "cursor")),
      });
      return { [listKey]: entries.map(render), next_cursor: nextCursor };
    },
  );
  routes.get(
    `${path}/:id`,
    { schema: { tags, params: EntryPath, response: answers(200, schemas.view) }, ...reads },
    async (request) => render(await find(callerOf(request), read, idOf(request.params))),
  );
  routes.post(
    path,
    { schema: { tags, body: schemas.body, response: answers(201, schemas.view) }, ...writes },
    async (request, reply) => {
      const body = bodyOf(request.body);
      demand(callerOf(request), write, maybe("orgId", orgIdOf(kind, body)));
      return reply.status(201).send(render(await directory.create(kind, body, originOf(request))));
    },
  );
  routes.patch(
    `${path}/:id`,
    {
      schema: { tags, params: EntryPath, body: schemas.patch, response: answers(200, schemas.view) },
      ...writes,
    },
    async (request) => {
      const body = bodyOf(request.body);
      const who = callerOf(request);
      await find(who, write, idOf(request.params));
      // Nobody gives away what is theirs, or takes what is not, by changing whose it is.
      if (orgIdOf(kind, body) !== undefined) demand(who, write, maybe("orgId", orgIdOf(kind, body)));
      return render(await directory.change(kind, idOf(request.params), body, originOf(request)));
    },
  );
  routes.delete(
    `${path}/:id`,
    { schema: { tags, params: EntryPath, response: { "4xx": ErrorAnswer } }, ...writes },
    async (request, reply) => {
      await find(callerOf(request), write, idOf(request.params));
      await directory.remove(kind, idOf(request.params), originOf(request));
      return reply.status(204).send();
    },
  );
}

/** The id in the path. One that is none is not known either. */
export function idOf(params: unknown): string {
  return readText(asObject(params) ?? {}, "id") ?? "";
}

function bodyOf(body: unknown) {
  const found = asObject(body);
  if (found === undefined) throw new MigError("invalid_request", "the body is a JSON object");
  return found;
}

/** Of an entry of the file nobody knows when it was written. */
export function timesOf({ row }: { row?: { createdAtMs: number; updatedAtMs: number } }): object {
  const time = (ms: number | undefined): string | null =>
    ms === undefined ? null : new Date(ms).toISOString();
  return { created_at: time(row?.createdAtMs), updated_at: time(row?.updatedAtMs) };
}

const actionsOf: Record<Kind, { read: Action; write: Action }> = {
  "github-apps": { read: "app.read", write: "app.write" },
  orgs: { read: "org.read", write: "org.write" },
  pools: { read: "pool.read", write: "pool.write" },
};

/** Apps belong to no organization: only who has all of them reaches them. */
function objectOf<K extends Kind>(kind: K, { config }: EntryOf<K>): { orgId?: string } {
  if (kind === "orgs") return { orgId: config.id };
  return "orgId" in config ? { orgId: config.orgId } : {};
}

function orgIdOf(kind: Kind, body: Unknown): string | undefined {
  return kind === "orgs" ? readText(body, "id") : kind === "pools" ? readText(body, "org_id") : undefined;
}
