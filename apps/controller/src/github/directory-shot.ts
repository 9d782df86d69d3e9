import { type AppConfig, readApp } from "../config/apps.ts";
import type { Problem } from "../config/env.ts";
import { type OrgConfig, readOrg } from "../config/orgs.ts";
import { type PoolConfig, readPool } from "../config/pools.ts";
import { appServing } from "../config/who-serves.ts";
import type { DirectoryRow, Rows } from "./directory-rows.ts";

/** What the file sets up, and what pools and Apps take that leave something out. */
export interface DirectoryBase {
  apps: readonly AppConfig[];
  orgs: readonly OrgConfig[];
  pools: readonly PoolConfig[];
  defaultPool: PoolConfig | undefined;
  poolBase: PoolConfig;
  githubApiUrl: string;
}

/** An entry of the file cannot be changed over the API. */
export interface Entry<C> {
  config: C;
  source: "file" | "api";
  /** Undefined for one of the file. */
  row?: DirectoryRow;
}

/** The whole directory at one moment: the file's entries and the API's, each sorted by id. */
export interface DirectoryShot {
  apps: readonly Entry<AppConfig>[];
  orgs: readonly Entry<OrgConfig>[];
  pools: readonly Entry<PoolConfig>[];
  /** What could not be taken over from the database, and why. */
  problems: readonly Problem[];
}

export function takeShot(base: DirectoryBase, rows: Rows): DirectoryShot {
  const problems: Problem[] = [];
  const merge = <C extends { id: string }>(
    what: string,
    written: readonly C[],
    stored: readonly DirectoryRow[],
    read: (row: DirectoryRow, problems: Problem[]) => C,
  ): Entry<C>[] => {
    const inFile = new Set(written.map(({ id }) => id));
    const entries: Entry<C>[] = written.map((config) => ({ config, source: "file" }));
    for (const row of stored) {
      if (inFile.has(row.id)) {
        problems.push({
          message: `the ${what} "${row.id}" of the API is hidden by the file's of the same id`,
        });
        continue;
      }
      const own: Problem[] = [];
      const config = read(row, own);
      if (own.length === 0) entries.push({ config, source: "api", row });
      problems.push(...own);
    }
    return entries.sort((a, b) => (a.config.id < b.config.id ? -1 : 1));
  };
  const apps = merge("GitHub App", base.apps, rows["github-apps"], ({ id, spec }, own) =>
    readApp(spec, `the GitHub App "${id}"`, base.githubApiUrl, own),
  );
  const orgs = merge("organization", base.orgs, rows.orgs, ({ id, spec }, own) =>
    readOrg(spec, `the organization "${id}"`, own),
  );
  const all = orgs.map(({ config }) => config);
  // Agents without credentials are let in by whoever has the machine, not by whoever has the API.
  const poolBase = { ...base.poolBase, legacyAgents: false };
  const pools = merge("pool", base.pools, rows.pools, ({ id, spec }, own) =>
    readPool(spec, `the pool "${id}"`, poolBase, own, all),
  );
  return { apps, orgs, pools, problems };
}

/** What does not fit together, by the entry that is at fault: "pool linux" → why. */
export function findMisfits(shot: DirectoryShot): Map<string, string> {
  const apps = shot.apps.map(({ config }) => config);
  const orgs = shot.orgs.map(({ config }) => config);
  const misfits = new Map<string, string>();
  for (const { id, app } of orgs) {
    if (app !== undefined && !apps.some((one) => one.id === app))
      misfits.set(`organization ${id}`, `is to be served by the GitHub App "${app}", which is not there`);
  }
  for (const { config } of shot.pools) {
    const served = appServing(config, apps, orgs);
    if ("problem" in served) misfits.set(`pool ${config.id}`, served.problem);
  }
  return misfits;
}
