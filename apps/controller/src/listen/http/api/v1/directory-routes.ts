import { MigError } from "@mig/lifecycle";
import { asObject, maybe, readText } from "@mig/protocol";
import { ErrorAnswer } from "@mig/protocol/schemas";
import type { EntryOf } from "../../../../github/directory-desk.ts";
import type { Kind } from "../../../../github/directory-rows.ts";
import { ask } from "../../../auth.ts";
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
  const onRequest = ask(gate, "operator");
  const path = `/api/v1/${kind}`;
  const answers = (status: number, schema: object) => ({ [status]: schema, "4xx": ErrorAnswer });

  routes.get(
    path,
    { schema: { tags, querystring: EntriesQuery, response: answers(200, schemas.answer) }, onRequest },
    async (request) => {
      const query = asObject(request.query) ?? {};
      const { entries, nextCursor } = await directory.list(kind, {
        limit: Math.min(1_000, Number(readText(query, "limit") ?? pageDefault)),
        ...maybe("cursor", readText(query, "cursor")),
      });
      return { [listKey]: entries.map(render), next_cursor: nextCursor };
    },
  );
  routes.get(
    `${path}/:id`,
    { schema: { tags, params: EntryPath, response: answers(200, schemas.view) }, onRequest },
    async ({ params }) => render(await directory.find(kind, idOf(params))),
  );
  routes.post(
    path,
    { schema: { tags, body: schemas.body, response: answers(201, schemas.view) }, onRequest },
    async ({ body }, reply) => reply.status(201).send(render(await directory.create(kind, bodyOf(body)))),
  );
  routes.patch(
    `${path}/:id`,
    {
      schema: { tags, params: EntryPath, body: schemas.patch, response: answers(200, schemas.view) },
      onRequest,
    },
    async ({ params, body }) => render(await directory.change(kind, idOf(params), bodyOf(body))),
  );
  routes.delete(
    `${path}/:id`,
    { schema: { tags, params: EntryPath, response: { "4xx": ErrorAnswer } }, onRequest },
    async ({ params }, reply) => {
      await directory.remove(kind, idOf(params));
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
