import { formatDurationMs } from "@mig/kit";
import type { JoinPolicy } from "../../../../config/join-policy.ts";
import type { DirectoryDesk, EntryOf } from "../../../../github/directory-desk.ts";
import type { HttpParts } from "../../http-app.ts";
import type { Routes } from "../../routes.ts";
import { directoryRoutes, timesOf } from "./directory-routes.ts";
import { poolSchemas } from "./directory-schemas.ts";

export function pools(routes: Routes, parts: HttpParts): void {
  const { directory } = parts.desk;
  if (directory === undefined) return;
  const render = (entry: EntryOf<"pools">): object => renderPool(entry, directory);
  directoryRoutes(routes, parts, { kind: "pools", listKey: "pools", schemas: poolSchemas, render });
}

function renderPool(entry: EntryOf<"pools">, directory: DirectoryDesk): object {
  const { config: pool, source } = entry;
  const served = directory.served(pool);
  return {
    id: pool.id,
    source,
    org_id: pool.orgId,
    runner_url: pool.runnerUrl,
    runner_group: pool.runnerGroup,
    labels: pool.labels,
    registration: pool.registration,
    legacy_agents: pool.legacyAgents,
    reuse: pool.reuse,
    allow_public: pool.allowPublic,
    leftover: pool.leftover ?? "remove",
    app: pool.app ?? null,
    served_by: "app" in served ? served.app : null,
    problem: "problem" in served ? served.problem : null,
    runner:
      pool.runner === undefined
        ? null
        : {
            version: pool.runner.version,
            sha256: pool.runner.sha256,
            download_url: pool.runner.downloadUrl ?? null,
          },
    join: pool.join === undefined ? null : renderJoin(pool.join),
    ...timesOf(entry),
  };
}

/** As it is written. */
function renderJoin({ gcp, aws }: JoinPolicy): object {
  return {
    ...(gcp === undefined
      ? {}
      : {
          gcp: {
            projects: gcp.projects,
            zones: gcp.zones,
            service_accounts: gcp.serviceAccounts,
            max_age: formatDurationMs(gcp.maxAgeMs),
          },
        }),
    ...(aws === undefined
      ? {}
      : {
          aws: {
            accounts: aws.accounts,
            regions: aws.regions,
            images: aws.images,
            roles: aws.roles,
            max_age: formatDurationMs(aws.maxAgeMs),
          },
        }),
  };
}
