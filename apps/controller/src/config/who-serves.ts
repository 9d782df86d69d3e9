import type { AppConfig } from "./apps.ts";
import type { OrgConfig } from "./orgs.ts";

export interface Served {
  id: string;
  orgId: string;
  runnerUrl: string;
  app?: string;
}

/**
 * The GitHub App of a pool: the one that it names, else its organization's, else the only one whose GitHub is that of
 * the pool's `runner_url`. More than one, or none, is for the operator to say.
 */
export function appServing(
  pool: Served,
  apps: readonly AppConfig[],
  orgs: readonly OrgConfig[],
): { app: string } | { problem: string } {
  const named = pool.app ?? orgs.find(({ id }) => id === pool.orgId)?.app;
  const ids = apps.flatMap(({ id }) => (id === "" ? [] : [id]));
  const list = ids.length === 0 ? "none is set up" : `there are ${ids.join(", ")}`;
  if (named !== undefined) {
    const app = apps.find(({ id }) => id === named);
    if (app === undefined) return { problem: `is to be served by the GitHub App "${named}"; ${list}` };
    if (app.servesAll === true || isSameGithub(app.apiUrl, pool.runnerUrl)) return { app: named };
    return {
      problem: `registers at ${pool.runnerUrl}, and its GitHub App "${named}" is of ${app.apiUrl}: that is another GitHub`,
    };
  }
  const near = apps.filter(({ apiUrl }) => isSameGithub(apiUrl, pool.runnerUrl));
  const [first, second] = near.length > 0 ? near : apps.filter((app) => app.servesAll === true);
  if (first === undefined)
    return { problem: `registers at ${pool.runnerUrl}, and no GitHub App is of that GitHub; ${list}` };
  if (second !== undefined)
    return {
      problem: `could be served by several GitHub Apps; name one with "app": ${near.map(({ id }) => id).join(", ")}`,
    };
  return { app: first.id };
}

/** Whether an API and a runner's address are of one GitHub (runner-contract §8.1). */
export function isSameGithub(apiUrl: string, runnerUrl: string): boolean {
  if (!URL.canParse(apiUrl) || !URL.canParse(runnerUrl)) return false;
  const api = new URL(apiUrl);
  const web = new URL(runnerUrl);
  const host = web.host === "www.github.com" ? "github.com" : web.host;
  const isInCloud = host === "github.com" || host.endsWith(".ghe.com");
  return api.host === (isInCloud ? `api.${host}` : host) && api.protocol === web.protocol;
}
