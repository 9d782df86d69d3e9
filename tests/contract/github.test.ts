import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog } from "@mig/kit";
import { createAppKey, type Github, type GithubOptions, githubCalls, startGithub } from "@mig/sandbox";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { accountOf } from "../../apps/controller/src/github/account.ts";
import { readAppKey } from "../../apps/controller/src/github/app-jwt.ts";
import { checkApp } from "../../apps/controller/src/github/check-app.ts";
import type { Grant, Pool } from "../../apps/controller/src/github/grant-source.ts";
import { findRunner, listRunners } from "../../apps/controller/src/github/list-runners.ts";
import { type OpenGrants, openGrants } from "../../apps/controller/src/runner/open-grants.ts";
import { createSealer } from "../../apps/controller/src/runner/seal.ts";
import { openStore, type Store } from "../../apps/controller/src/store/open-store.ts";
import { furnish } from "../../apps/controller/tests/pglite-template.ts";
import { readClientRoutes } from "./client-routes.ts";
import { readDescription } from "./description.ts";
import { tryEveryRoute } from "./every-route.ts";
import { completeJob, makeBusy } from "./jit-runner.ts";
import { startValidatingProxy, type ValidatingProxy } from "./validating-proxy.ts";

/**
 * Our client and our stand-in agree with each other all too easily. Here GitHub's own description stands between them:
 * each request and each answer must be as it says, and no route of the client may go untried.
 */
const key = createAppKey();
const otherKey = createAppKey();
const groups = [
  { id: 1, name: "Default" },
  {
    id: 2,
    name: "Trusted",
    visibility: "selected" as const,
    selectedWorkflows: ["acme/app/.github/workflows/ci.yml@main"],
  },
];
const holdMs = 20_000;
let dataDir: string;
let store: Store;

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "mig-contract-"));
  await furnish(dataDir);
  store = await openStore({ dataDir });
});
afterAll(async () => {
  await store[Symbol.asyncDispose]();
  await rm(dataDir, { recursive: true, force: true });
});

describe.each([
  { title: "api.github.com", prefix: "", options: {} },
  { title: "ghes-3.19", prefix: "/api/v3", options: { enterpriseVersion: "3.19.0" } },
])("the contract with $title", ({ title, prefix, options }) => {
  const description = readDescription(title);
  let github: Github;
  let proxy: ValidatingProxy;
  let end: AbortController;
  let lives = 0;

  beforeEach(() => open());
  afterEach(() => close());

  async function open(more: GithubOptions = {}): Promise<void> {
    end = new AbortController();
    github = await startGithub({ publicKeyPem: key.publicKeyPem, runnerGroups: groups, ...options, ...more });
    proxy = await startValidatingProxy(github.url, description, prefix);
  }
  async function close(): Promise<void> {
    end.abort();
    await proxy[Symbol.asyncDispose]();
    await github.close();
    // Of every test, and of every proxy that one opens.
    expect(proxy.takeProblems()).toEqual([]);
  }
  async function reopen(more: GithubOptions): Promise<void> {
    await close();
    await open(more);
  }

  /** The real client, as the controller opens it. */
  function openClient(pool: Pool, privateKeyPem = key.privateKeyPem): OpenGrants {
    lives += 1;
    const app = `${title}-${lives}`;
    return openGrants({
      store,
      apps: [
        {
          id: app,
          apiUrl: proxy.url + prefix,
          appId: "1234",
          keys: async () => [readAppKey(privateKeyPem)],
          perMinuteStart: 60_000,
          perMinuteMax: 60_000,
        },
      ],
      appOf: () => app,
      poolOf: () => pool,
      sealer: createSealer(randomBytes(32)),
      wakeVm: () => {},
      onAlarm: () => {},
      log: silentLog,
      signal: end.signal,
    });
  }
  const poolFor = (account: string, registration: "jit" | "token", runnerGroup = "default"): Pool => ({
    id: "p",
    orgId: "acme",
    runnerUrl: `https://github.com/${account}`,
    runnerGroup,
    labels: ["self-hosted", "linux"],
    registration,
  });
  const grantOf = ({ source }: OpenGrants, pool: Pool): Promise<Grant> =>
    source.take(
      {
        vmId: `vm-${title}-${lives}`,
        incarnation: "boot-1",
        requestId: `r-${lives}`,
        orgId: "acme",
        poolId: "p",
        pool,
      },
      holdMs,
    );
  const removalOf = ({ source }: OpenGrants, runnerName: string) =>
    source.remove({ orgId: "acme", poolId: "p", runnerName });

  it("holds for everything that the controller calls", async () => {
    for (const account of ["acme", "acme/app"]) {
      for (const registration of ["jit", "token"] as const) {
        const pool = poolFor(account, registration, account === "acme" ? "Trusted" : "default");
        const client = openClient(pool);
        const grant = await grantOf(client, pool);
        const app = [...client.apps.values()][0]?.app;
        if (app === undefined) throw new Error("no App is open");
        const list = await listRunners(app, accountOf(pool.runnerUrl));
        expect(list.runners.some(({ name }) => name === grant.runnerName)).toBe(registration === "jit");
        if (registration === "token") continue;
        const name = grant.runnerName ?? "";
        expect(await findRunner(app, accountOf(pool.runnerUrl), name)).toMatchObject({ isBusy: false });
        await makeBusy(github, grant);
        expect(await removalOf(client, name)).toBe("busy");
        for (const job of await github.jobs())
          if (job.status === "in_progress") await completeJob(github, job.guid);
        expect(await removalOf(client, name)).toBe("removed");
      }
    }
    const checked = await checkApp({
      app: { id: "a", apiUrl: proxy.url + prefix, issuer: "1234", key: "file:///app.pem" },
      keys: [{ role: "key", reference: "file:///app.pem", key: readAppKey(key.privateKeyPem) }],
      orgs: [{ id: "acme", github: "https://github.com/acme" }],
      pools: [
        { ...poolFor("acme", "jit", "Trusted"), legacyAgents: false, reuse: false, allowPublic: false },
        { ...poolFor("acme/app", "jit"), legacyAgents: false, reuse: false, allowPublic: false },
      ],
      groupPolicy: "warn",
      admit: async () => {},
      signal: end.signal,
    });
    expect(checked.checks.filter(({ ok, required }) => required && !ok)).toEqual([]);

    expect(proxy.takeProblems()).toEqual([]);
    const { routes, unclear } = readClientRoutes(description);
    expect(unclear).toEqual([]);
    // In both directions: a route that was not tried, and a call whose route the source does not show.
    expect([...proxy.seen.keys()].sort()).toEqual([...routes].sort());
  });

  it("holds when GitHub refuses", async () => {
    const fails = (runnerGroup = "default", pem = key.privateKeyPem, runnerName = "vm-1") => {
      const pool = poolFor("acme", "jit", runnerGroup);
      const registrar = [...openClient(pool, pem).apps.values()][0]?.registrar;
      return expect(registrar?.register({ ...pool, runnerName })).rejects;
    };
    await fails("default", otherKey.privateKeyPem).toMatchObject({ code: "github_unauthorized" });
    await fails("7").toMatchObject({ code: "github_not_installed" });
    await grantOf(openClient(poolFor("acme", "jit")), poolFor("acme", "jit"));
    const [{ name = "" } = {}] = await github.runners();
    await fails("default", key.privateKeyPem, name).toMatchObject({ code: "github_conflict" });
    await fails("default", key.privateKeyPem, "").toMatchObject({ code: "github_conflict" });
    await github.suspend("acme", true);
    await fails().toMatchObject({ code: "github_forbidden" });
    await github.uninstall("acme");
    await fails().toMatchObject({ code: "github_not_installed" });
    await reopen({ permissions: { metadata: "read" } });
    await fails().toMatchObject({ code: "github_forbidden" });
    for (const refuseWith of [403, 429] as const) {
      await reopen({ limits: { pointsPerMinute: 2, refuseWith } });
      await fails().toMatchObject({ code: "github_rate_limited" });
      await reopen({ limits: { corePerHour: 1, refuseWith } });
      await fails().toMatchObject({ code: "github_rate_limited" });
    }
    expect(proxy.takeProblems()).toEqual([]);
  });

  it("holds for a repository that was renamed", async () => {
    await github.renameRepository("acme/old", "acme/renamed");
    const pool = poolFor("acme/old", "jit");
    await grantOf(openClient(pool), pool);
    expect(await github.runners()).toMatchObject([{ scope: "acme/renamed" }]);
    expect(proxy.takeProblems()).toEqual([]);
    expect(proxy.seen.get("GET /repos/{owner}/{repo}/installation")).toEqual(new Set([301, 200]));
    expect(proxy.seen.get("POST /repos/{owner}/{repo}/actions/runners/generate-jitconfig")).toEqual(
      new Set([307, 201]),
    );
  });

  it("finds out a stand-in that answers otherwise, and a client that asks otherwise", async () => {
    const pool = poolFor("acme", "jit", "Trusted");
    await github.addFault({ ...githubCalls.installation, merge: { app_slug: null } });
    await github.addFault({ ...githubCalls.token, merge: { repository_selection: "none" } });
    await github.addFault({ ...githubCalls.groups, merge: { total_count: "2" } });
    await github.addFault({ ...githubCalls.grant, merge: { runner: { colour: "red" } } });
    await grantOf(openClient(pool), pool);
    const found = proxy.takeProblems();
    expect(found).toHaveLength(4);
    for (const pattern of [/app_slug/, /repository_selection/, /total_count must be number/, /colour/])
      expect(found.join("\n")).toMatch(pattern);

    const app = [...openClient(pool).apps.values()][0]?.app;
    await app?.call(accountOf(pool.runnerUrl), "GET /actions/runners", { size: 7 });
    await expect(app?.call(accountOf(pool.runnerUrl), "GET /actions/riders", {})).rejects.toBeDefined();
    expect(proxy.takeProblems()).toEqual([
      "GET /orgs/{org}/actions/runners (200): the query parameter size is not described",
      `GET ${prefix}/orgs/acme/actions/riders is not in GitHub's description`,
    ]);
  });

  it("holds for every other route that the stand-in knows", async () => {
    const answered = await tryEveryRoute(description, github, proxy.url + prefix, key.privateKeyPem);
    expect(proxy.takeProblems()).toEqual([]);
    for (const route of [
      "GET /app/installations",
      "GET /app/installations/{installation_id}",
      "GET /rate_limit",
      "GET /orgs/{org}/actions/runner-groups/{runner_group_id}",
      "GET /orgs/{org}/actions/runners/{runner_id}",
      "POST /repos/{owner}/{repo}/actions/runners/remove-token",
      "GET /repos/{owner}/{repo}/actions/jobs/{job_id}",
      "GET /repos/{owner}/{repo}/actions/runs/{run_id}/jobs",
      "GET /repos/{owner}/{repo}/actions/runs/{run_id}/attempts/{attempt_number}/jobs",
      "POST /repos/{owner}/{repo}/actions/runs/{run_id}/cancel",
    ])
      expect(answered).toContain(route);
  });
});
