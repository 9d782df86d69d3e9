/** The REST calls that a control plane makes (runner-contract §8). */
import { type Access, granted } from "./access.ts";
import type { Fleet } from "./fleet.ts";
import type { Runner } from "./fleet-types.ts";
import { type Call, Refusal, type Reply, type Route, text } from "./http.ts";
import { encodeJitConfig, isLabelList, restJob, restRunner } from "./rest-shapes.ts";

const scopePattern = "/(?:orgs/([^/]+)|repos/([^/]+/[^/]+))";

export function restRoutes(access: Access, fleet: Fleet): readonly Route[] {
  /** Routes below an organization or a repository; the handler learns the scope in one form. */
  const scoped = (
    method: string,
    path: string,
    level: "read" | "write",
    handler: (call: Call, scope: string, parameter: string) => Reply,
  ): Route => [
    method,
    new RegExp(`^${scopePattern}/actions/${path}$`),
    (call, org, repository, parameter) => {
      const scope = org || repository || "";
      allow(call, scope, level);
      return handler(call, scope, parameter ?? "");
    },
  ];

  /** Installation tokens, and the `RemoteAuth` tokens with which config.sh reads and deletes its own scope. */
  const allow = (call: Call, scope: string, level: "read" | "write"): void => {
    if (!call.authorization.startsWith("RemoteAuth ")) {
      access.requireInstallation(call, scope, "runners", level);
    } else if (access.requireRunnerToken(call).toLowerCase() !== scope.toLowerCase()) {
      throw new Refusal(404, "Not Found");
    }
  };

  const installation = (owner: string) => {
    const id = access.installationOf(owner);
    if (id === undefined) throw new Refusal(404, "Not Found");
    return {
      id,
      account: { login: owner, id, type: "Organization" },
      app_id: access.appId,
      client_id: access.clientId,
      target_type: "Organization",
      permissions: granted,
      events: ["workflow_job"],
      repository_selection: "all",
      suspended_at: null,
    };
  };

  const find = (scope: string, id: string): Runner => {
    const runner = fleet.list(scope).find((candidate) => candidate.id === Number(id));
    if (!runner) throw new Refusal(404, "Not Found");
    return runner;
  };

  const createJitConfig = (call: Call, scope: string): Reply => {
    const { name, runner_group_id: groupId, labels, work_folder: workFolder } = call.body;
    if (typeof name !== "string" || !name || typeof groupId !== "number" || !isLabelList(labels)) {
      throw new Refusal(422, "Invalid request.", {
        errors: ["name, runner_group_id and 1 to 100 labels are required."],
      });
    }
    if (groupId !== 1) throw new Refusal(404, "Not Found");
    if (fleet.named(scope, name)) {
      throw new Refusal(409, `Already exists - A runner with the name ${name} already exists.`);
    }
    const runner = fleet.register({
      name,
      scope,
      labels,
      groupId,
      ephemeral: true,
      disableUpdate: false,
    });
    const encoded = encodeJitConfig(runner, call.baseUrl, text(workFolder) || "_work");
    return { status: 201, body: { runner: restRunner(fleet, runner), encoded_jit_config: encoded } };
  };

  const listRunners = (call: Call, scope: string): Reply => {
    const name = call.query.get("name");
    const all = fleet.list(scope).filter((runner) => name === null || runner.name === name);
    const perPage = Math.min(Math.max(Number(call.query.get("per_page") ?? 30) || 30, 1), 100);
    const page = Math.max(Number(call.query.get("page") ?? 1) || 1, 1);
    const runners = all
      .slice((page - 1) * perPage, page * perPage)
      .map((runner) => restRunner(fleet, runner));
    return { status: 200, body: { total_count: all.length, runners } };
  };

  const deleteRunner = (call: Call, scope: string, id: string): Reply => {
    const runner = find(scope, id);
    if (fleet.isBusy(runner)) {
      // The stray quote at the end is GitHub's (runner-contract §8.3); config.sh remove is told otherwise (§2.8).
      const message = call.authorization.startsWith("RemoteAuth ")
        ? `Runner "${runner.name}" is currently running a job and cannot be deleted.`
        : `Bad request - Runner "${runner.name}" is still running a job"`;
      throw new Refusal(422, message);
    }
    fleet.end(runner, "deleted");
    return { status: 204 };
  };

  const jobsOfRun = (call: Call, repository: string, runId: string): Reply => {
    access.requireInstallation(call, repository, "actions", "read");
    const jobs = [...fleet.jobs.values()].filter(
      (job) => job.runId === Number(runId) && job.repository === repository,
    );
    return { status: 200, body: { total_count: jobs.length, jobs: jobs.map(restJob) } };
  };

  const listGroups = (): Reply => ({
    status: 200,
    body: {
      total_count: 1,
      runner_groups: [
        {
          id: 1,
          name: "Default",
          visibility: "all",
          default: true,
          inherited: false,
          allows_public_repositories: false,
          restricted_to_workflows: false,
          selected_workflows: [],
        },
      ],
    },
  });

  return [
    [
      "GET",
      /^\/app$/,
      (call) => {
        access.requireApp(call);
        const { appId: id, clientId: client_id } = access;
        const body = { id, client_id, slug: "mig-stand-in", name: "MIG stand-in", permissions: granted };
        return { status: 200, body: { ...body, events: ["workflow_job"], installations_count: 1 } };
      },
    ],
    [
      "GET",
      /^\/app\/installations$/,
      (call) => {
        access.requireApp(call);
        return { status: 200, body: access.installations().map(([org]) => installation(org)) };
      },
    ],
    [
      "GET",
      /^\/(?:orgs|repos)\/([^/]+)(?:\/[^/]+)?\/installation$/,
      (call, owner = "") => {
        access.requireApp(call);
        return { status: 200, body: installation(owner) };
      },
    ],
    [
      "POST",
      /^\/app\/installations\/(\d+)\/access_tokens$/,
      (call, id) => {
        access.requireApp(call);
        if (!access.isInstallation(Number(id))) throw new Refusal(404, "Not Found");
        return { status: 201, body: access.createInstallationToken(Number(id), call.body["permissions"]) };
      },
    ],
    scoped("POST", "runners/(registration|remove)-token", "write", (_call, scope, kind) => ({
      status: 201,
      body: access.createRunnerToken(kind === "remove" ? "remove" : "registration", scope),
    })),
    scoped("POST", "runners/generate-jitconfig", "write", createJitConfig),
    scoped("GET", "runner-groups", "read", listGroups),
    scoped("GET", "runners", "read", listRunners),
    scoped("GET", "runners/(\\d+)", "read", (_call, scope, id) => ({
      status: 200,
      body: restRunner(fleet, find(scope, id)),
    })),
    scoped("DELETE", "runners/(\\d+)", "write", deleteRunner),
    ["GET", /^\/repos\/([^/]+\/[^/]+)\/actions\/runs\/(\d+)(?:\/attempts\/\d+)?\/jobs$/, jobsOfRun],
    [
      "POST",
      /^\/repos\/([^/]+\/[^/]+)\/actions\/runs\/(\d+)\/(?:force-)?cancel$/,
      (call, repository = "", runId) => {
        access.requireInstallation(call, repository, "actions", "write");
        const jobs = [...fleet.jobs.values()].filter((job) => job.runId === Number(runId));
        if (jobs.length === 0) throw new Refusal(404, "Not Found");
        for (const job of jobs) fleet.cancel(job);
        return { status: 202, body: {} };
      },
    ],
    [
      "GET",
      /^\/repos\/([^/]+\/[^/]+)\/actions\/jobs\/(\d+)$/,
      (call, repository = "", id) => {
        access.requireInstallation(call, repository, "actions", "read");
        const job = fleet.jobs.get(Number(id));
        if (job?.repository !== repository) throw new Refusal(404, "Not Found");
        return { status: 200, body: restJob(job) };
      },
    ],
  ];
}
