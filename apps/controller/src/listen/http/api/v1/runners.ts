import { maybe } from "@mig/protocol";
import { ErrorAnswer } from "@mig/protocol/schemas";
import type { Look, RunnerEntry } from "../../../../runner/inventory-list.ts";
import { ask, callerOf, orgsOf } from "../../../auth.ts";
import type { HttpParts } from "../../http-app.ts";
import type { Routes } from "../../routes.ts";
import { RunnersAnswer, RunnersQuery } from "./runners-schemas.ts";

const pageDefault = 100;

/** GitHub's runners beside our VMs, with a verdict for each; sample mode has none. */
export function runners(routes: Routes, { desk: { inventory }, gate }: HttpParts): void {
  if (inventory === undefined) return;
  routes.get(
    "/api/v1/runners",
    {
      schema: {
        tags: ["operator"],
        querystring: RunnersQuery,
        response: { 200: RunnersAnswer, "4xx": ErrorAnswer },
      },
      onRequest: ask(gate, "runner.read"),
    },
    async (request) => {
      const query = request.query as Partial<Record<keyof typeof RunnersQuery.properties, string>>;
      const page = await inventory.list({
        limit: Math.min(1_000, Number(query.limit ?? pageDefault)),
        ...maybe("orgIds", orgsOf(callerOf(request))),
        ...maybe("verdict", query.verdict),
        ...maybe("poolId", query.pool_id),
        ...maybe("orgId", query.org_id),
        ...maybe("app", query.app),
        ...maybe("cursor", query.cursor),
      });
      return {
        runners: page.runners.map(renderRunner),
        next_cursor: page.nextCursor,
        counts: page.counts,
        looks: page.looks.map(renderLook),
      };
    },
  );
}

function renderRunner(entry: RunnerEntry): object {
  return {
    app: entry.app,
    account: entry.account,
    runner_id: entry.runnerId,
    runner_name: entry.runnerName,
    vm_id: entry.vmId,
    pool_id: entry.poolId,
    org_id: entry.orgId,
    verdict: entry.verdict,
    reason: entry.reason,
    status: entry.status,
    busy: entry.busy,
    offline_since: time(entry.offlineAtMs),
    verdict_since: time(entry.verdictAtMs),
    seen_at: time(entry.seenAtMs),
    removed_at: time(entry.removedAtMs),
    drained_at: time(entry.drainedAtMs),
  };
}

function renderLook({ app, account, lookedAtMs, nextAtMs, problem }: Look): object {
  return { app, account, looked_at: time(lookedAtMs), next_at: time(nextAtMs), problem };
}

function time(ms: number | null): string | null {
  return ms === null ? null : new Date(ms).toISOString();
}
