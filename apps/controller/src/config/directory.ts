import type { AppConfig } from "./apps.ts";
import type { Mode } from "./config.ts";
import type { Invocation } from "./env.ts";
import type { GitHubRead } from "./github.ts";
import { type OrgConfig, readOrgs } from "./orgs.ts";
import { type PoolConfig, problemOfLabels, readPool, readPools } from "./pools.ts";
import type { Values } from "./values.ts";
import { appServing } from "./who-serves.ts";

export interface DirectoryConfig {
  apps: AppConfig[];
  orgs: OrgConfig[];
  pools: PoolConfig[];
  defaultPool: PoolConfig | undefined;
  poolBase: PoolConfig;
}

/** The Apps, organizations and pools of the file, checked against each other. */
export function readDirectory(
  values: Values,
  invocation: Invocation,
  mode: Mode,
  github: GitHubRead,
): DirectoryConfig {
  const { fileName } = invocation;
  const { apps, isByApi } = github;
  const orgs = readOrgs(invocation.orgs, `${fileName}: orgs`, values.problems);
  const { pools, defaultPool, poolBase, poolsByApi } = readAllPools(values, invocation, mode, github, orgs);
  const isKnown = (id: string): boolean => apps.some((app) => app.id === id);
  for (const [i, { app }] of orgs.entries()) {
    // What the API adds later may be named already; then it is told when a pool needs it, and by the probe.
    if (app === undefined || isKnown(app) || isByApi || mode === "sample") continue;
    values.problems.push({
      message: `${fileName}: orgs[${i}] .app names a GitHub App "${app}" that github.apps does not have`,
    });
  }
  for (const [i, pool] of pools.entries()) {
    if (apps.length === 0) break;
    const served = appServing(pool, apps, orgs);
    if ("problem" in served)
      values.problems.push({ message: `${fileName}: pools[${i}] "${pool.id}" ${served.problem}` });
  }
  // In normal mode a VM of an unlisted pool is somebody else's, unless the operator named a pool for all.
  if (mode === "normal" && defaultPool === undefined && pools.length === 0 && !poolsByApi)
    values.refuse(
      "runner_url",
      'or a list of pools in the file of --config says where runners register; an empty list, "pools: []", means that they are set up over the API',
    );
  const isDefaultMeant = invocation.defaultPool != null || values.isWritten("runner_url");
  if (defaultPool !== undefined && apps.length > 0 && isDefaultMeant) {
    const served = appServing(defaultPool, apps, orgs);
    if ("problem" in served) values.problems.push({ message: `default_pool ${served.problem}` });
  }
  return { apps, orgs, pools, defaultPool, poolBase };
}

function readAllPools(
  values: Values,
  { defaultPool: written, pools: list, fileName }: Invocation,
  mode: Mode,
  { apps, isByApi }: GitHubRead,
  orgs: readonly OrgConfig[],
): Omit<DirectoryConfig, "apps" | "orgs"> & { poolsByApi: boolean } {
  const hasApps = apps.length > 0 || (isByApi && mode !== "sample");
  const base: PoolConfig = {
    id: "default",
    orgId: "default",
    runnerUrl: values.url("runner_url"),
    runnerGroup: values.text("runner_group") ?? "",
    labels: values.list("labels"),
    registration: hasApps ? "jit" : "token",
    legacyAgents: mode === "sample",
    reuse: false,
    allowPublic: false,
  };
  const labelProblem = problemOfLabels(base.labels);
  if (labelProblem !== undefined) values.refuse("labels", labelProblem);
  const pool =
    written === undefined || written === null
      ? base
      : readPool(written, `${fileName}: default_pool`, base, values.problems, orgs);
  // The default address is for trying MIG out: nobody's runners belong there by accident.
  const isUrlMeant = mode !== "normal" || pool !== base || values.isWritten("runner_url");
  const runnerUrl = isUrlMeant ? pool.runnerUrl : "";
  const poolBase = { ...pool, id: "", runnerUrl, legacyAgents: mode === "sample" };
  const pools = readPools(list, `${fileName}: pools`, poolBase, values.problems, orgs);
  if (!hasApps && mode !== "normal" && [pool, ...pools].some((one) => one.registration === "jit")) {
    values.problems.push({
      message: `registration: jit needs a GitHub App, and ${mode} mode has none; write registration: token`,
    });
  }
  const poolsByApi = Array.isArray(list) && list.length === 0;
  return { pools, defaultPool: isUrlMeant ? pool : undefined, poolBase, poolsByApi };
}
