import type { EntryOf } from "../../../../github/directory-desk.ts";
import type { HttpParts } from "../../http-app.ts";
import type { Routes } from "../../routes.ts";
import { directoryRoutes, timesOf } from "./directory-routes.ts";
import { orgSchemas } from "./directory-schemas.ts";

export function orgs(routes: Routes, parts: HttpParts): void {
  directoryRoutes(routes, parts, { kind: "orgs", listKey: "orgs", schemas: orgSchemas, render });
}

function render(entry: EntryOf<"orgs">): object {
  const { id, github, app } = entry.config;
  return { id, source: entry.source, github, app: app ?? null, ...timesOf(entry) };
}
