import { ErrorAnswer } from "@mig/protocol/schemas";
import type { EntryOf } from "../../../../github/directory-desk.ts";
import { ask } from "../../../auth.ts";
import type { HttpParts } from "../../http-app.ts";
import type { Routes } from "../../routes.ts";
import { directoryRoutes, idOf, timesOf } from "./directory-routes.ts";
import { appSchemas, CheckAnswer, EntryPath } from "./directory-schemas.ts";

/** GitHub Apps, and whether they can do their work. */
export function githubApps(routes: Routes, parts: HttpParts): void {
  directoryRoutes(routes, parts, {
    kind: "github-apps",
    listKey: "github_apps",
    schemas: appSchemas,
    render,
  });
  const { directory } = parts.desk;
  if (directory === undefined) return;

  routes.post(
    "/api/v1/github-apps/:id/check",
    {
      schema: { tags: ["operator"], params: EntryPath, response: { 200: CheckAnswer, "4xx": ErrorAnswer } },
      onRequest: ask(parts.gate, "app.check"),
    },
    async ({ params }) => {
      const { checkedAtMs, ...report } = await directory.check(idOf(params));
      return { ...report, checked_at: new Date(checkedAtMs).toISOString() };
    },
  );
}

function render(entry: EntryOf<"github-apps">): object {
  const { id, apiUrl, issuer, key, previousKey, signer, installationId, pace } = entry.config;
  return {
    id,
    source: entry.source,
    api_url: apiUrl,
    app_id: issuer,
    key: key ?? null,
    previous_key: previousKey ?? null,
    signer: signer ?? null,
    installation_id: installationId ?? null,
    pace: pace ?? null,
    ...timesOf(entry),
  };
}
