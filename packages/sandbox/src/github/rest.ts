/** The REST calls that a control plane makes about runners and jobs (runner-contract §8.3, §8.4). */
import type { Access } from "./access.ts";
import { type Fleet, sameText } from "./fleet.ts";
import type { Runner } from "./fleet-types.ts";
import { type Call, Refusal, type Reply, type Route, text } from "./http.ts";
import { pageOf } from "./pages.ts";
import { encodeJitConfig, isLabelList, restGroup, restJob, restRunner } from "./rest-shapes.ts";
import type { RunnerGroup } from "./types.ts";

const defaultGroup: RunnerGroup = { id: 1, name: "Default" };
const scopePattern = "/(?:orgs/([^/]+)|repos/([^/]+/[^/]+))";

export function restRoutes(
  access: Access,
  fleet: Fleet,
  groups: readonly RunnerGroup[] = [defaultGroup],
): readonly Route[] {
  const apiUrlOf = (call: Call): string => call.baseUrl + call.prefix;

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

  const find = (scope: string, id: string): Runner => {
    const runner = fleet.runners.get(Number(id));
    if (!runner || !sameText(runner.scope, scope)) throw new Refusal(404, "Not Found");
    return runner;
  };

  const createJitConfig = (call: Call, scope: string): Reply => {
    const { name, runner_group_id: groupId, labels, work_folder: workFolder } = call.body;
    if (typeof name !== "string" || !name || typeof groupId !== "number" || !isLabelList(labels)) {
      throw new Refusal(422, "Invalid request.", {
        errors: ["name, runner_group_id and 1 to 100 labels are required."],
      });
    }
    // Repositories have no groups but the default one (runner-contract §7.2).
    const known = scope.includes("/") ? [defaultGroup] : groups;
    if (!known.some(({ id }) => id === groupId)) throw new Refusal(404, "Not Found");
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
    const named = name === null ? undefined : fleet.named(scope, name);
    const all = name === null ? fleet.list(scope) : named?.name === name ? [named] : [];
    const { items, headers } = pageOf(call, all);
    const runners = items.map((runner) => restRunner(fleet, runner));
    return { status: 200, body: { total_count: all.length, runners }, headers };
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
    const shown = jobs.map((job) => restJob(job, apiUrlOf(call)));
    return { status: 200, body: { total_count: jobs.length, jobs: shown } };
  };

  const requireOrg = (scope: string): void => {
    if (scope.includes("/")) throw new Refusal(404, "Not Found");
  };
  const listGroups = (call: Call, scope: string): Reply => {
    requireOrg(scope);
    const { items, headers } = pageOf(call, groups);
    const runner_groups = items.map((group) => restGroup(group, scope, apiUrlOf(call)));
    return { status: 200, body: { total_count: groups.length, runner_groups }, headers };
  };
  const showGroup = (call: Call, scope: string, id: string): Reply => {
    requireOrg(scope);
    const group = groups.find((one) => one.id === Number(id));
    if (!group) throw new Refusal(404, "Not Found");
    return { status: 200, body: restGroup(group, scope, apiUrlOf(call)) };
  };

  return [
    scoped("POST", "runners/(registration|remove)-token", "write", (_call, scope, kind) => ({
      status: 201,
      body: access.createRunnerToken(kind === "remove" ? "remove" : "registration", scope),
    })),
    scoped("POST", "runners/generate-jitconfig", "write", createJitConfig),
    scoped("GET", "runner-groups", "read", listGroups),
    scoped("GET", "runner-groups/(\\d+)", "read", showGroup),
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
        return { status: 200, body: restJob(job, apiUrlOf(call)) };
      },
    ],
  ];
}
