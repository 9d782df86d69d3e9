/**
 * The bodies of GitHub's REST answers (runner-contract §7.2, §8.3, §8.4, §8.6), with every field that GitHub's own
 * description requires: tests/contract holds them to it.
 */
import { randomBytes } from "node:crypto";
import type { Fleet } from "./fleet.ts";
import type { MutableJob, Runner } from "./fleet-types.ts";
import type { RunnerGroup } from "./types.ts";

const runnerTypes = new Set(["self-hosted", "linux", "macos", "windows", "x64", "arm64", "arm", "x86"]);
const documentation = "https://docs.github.com/rest/actions/self-hosted-runners";
const sha = "0123456789abcdef0123456789abcdef01234567";

/** GitHub's error body; `status` is a string there. */
export function errorBody(refusal: {
  readonly status: number;
  readonly message: string;
  readonly details?: Readonly<Record<string, unknown>>;
}) {
  return {
    message: refusal.message,
    documentation_url: documentation,
    status: String(refusal.status),
    ...refusal.details,
  };
}

export function isLabelList(labels: unknown): labels is string[] {
  return (
    Array.isArray(labels) &&
    labels.length >= 1 &&
    labels.length <= 100 &&
    labels.every((label) => typeof label === "string" && label !== "")
  );
}

export function restRunner(fleet: Fleet, runner: Runner) {
  const { id, name, os, ephemeral, status, busy, groupId, version } = fleet.describe(runner);
  const labels = runner.labels.map((label, index) => ({
    id: index + 1,
    name: label,
    type: runnerTypes.has(label.toLowerCase()) ? "read-only" : "custom",
  }));
  return {
    id,
    name,
    os,
    status,
    busy,
    ephemeral,
    runner_group_id: groupId,
    labels,
    ...(version === null ? {} : { version }),
  };
}

export function restGroup(group: RunnerGroup, org: string, apiUrl: string) {
  const { id, name, visibility = "all", allowsPublicRepositories = false, selectedWorkflows = [] } = group;
  const at = `${apiUrl}/orgs/${org}/actions/runner-groups/${id}`;
  return {
    id,
    name,
    visibility,
    default: id === 1,
    ...(visibility === "selected" ? { selected_repositories_url: `${at}/repositories` } : {}),
    runners_url: `${at}/runners`,
    inherited: group.inherited ?? false,
    allows_public_repositories: allowsPublicRepositories,
    restricted_to_workflows: selectedWorkflows.length > 0,
    selected_workflows: selectedWorkflows,
    workflow_restrictions_read_only: false,
  };
}

/** Before a job is assigned its runner is null; `started_at` is set even then (runner-contract §9.2). */
export function restJob(job: MutableJob, apiUrl: string) {
  const repository = `${apiUrl}/repos/${job.repository}`;
  return {
    id: job.id,
    run_id: job.runId,
    run_url: `${repository}/actions/runs/${job.runId}`,
    run_attempt: job.runAttempt,
    node_id: nodeId("CheckRun", job.id),
    head_sha: sha,
    head_branch: "main",
    url: `${repository}/actions/jobs/${job.id}`,
    html_url: `${apiUrl.replace(/\/api\/v3$/, "")}/${job.repository}/actions/runs/${job.runId}/job/${job.id}`,
    status: job.status,
    conclusion: job.conclusion,
    created_at: job.createdAt,
    started_at: job.startedAt ?? job.createdAt,
    completed_at: job.completedAt,
    name: job.displayName,
    labels: job.labels,
    runner_id: job.runnerId,
    runner_name: job.runnerName,
    runner_group_id: job.runnerId === null ? null : 1,
    runner_group_name: job.runnerId === null ? null : "Default",
    workflow_name: job.workflow,
    check_run_url: `${repository}/check-runs/${job.id}`,
    steps: [],
  };
}

export function restOwner(login: string, id: number, apiUrl: string) {
  const at = `${apiUrl}/users/${login}`;
  return {
    login,
    id,
    node_id: nodeId("Organization", id),
    avatar_url: `${apiUrl}/avatars/${id}`,
    gravatar_id: "",
    url: at,
    html_url: `${apiUrl.replace(/\/api\/v3$/, "")}/${login}`,
    followers_url: `${at}/followers`,
    following_url: `${at}/following{/other_user}`,
    gists_url: `${at}/gists{/gist_id}`,
    starred_url: `${at}/starred{/owner}{/repo}`,
    subscriptions_url: `${at}/subscriptions`,
    organizations_url: `${at}/orgs`,
    repos_url: `${at}/repos`,
    events_url: `${at}/events{/privacy}`,
    received_events_url: `${at}/received_events`,
    type: "Organization",
    site_admin: false,
  };
}

export function nodeId(kind: string, id: number): string {
  return Buffer.from(`0${kind.length}:${kind}${id}`).toString("base64");
}

/** What JIT delivers differs from what config.sh writes: PascalCase, no BOM, numbers as text (runner-contract §1.4). */
export function encodeJitConfig(runner: Runner, baseUrl: string, workFolder: string): string {
  const settings = {
    AgentId: String(runner.id),
    AgentName: runner.name,
    PoolId: "1",
    PoolName: null,
    ServerUrl: `${baseUrl}/_services/`,
    GitHubUrl: null,
    WorkFolder: workFolder,
    Ephemeral: "true",
    UseV2Flow: "true",
    ServerUrlV2: `${baseUrl}/broker/`,
  };
  const files = {
    ".runner": JSON.stringify(settings),
    ".credentials": JSON.stringify({
      Scheme: "OAuth",
      Data: { ClientId: runner.clientId, AuthorizationUrl: `${baseUrl}/_services/oauth2/token` },
    }),
    ".credentials_rsaparams": JSON.stringify({
      exponent: "AQAB",
      modulus: randomBytes(256).toString("base64"),
    }),
  };
  const encoded = Object.entries(files).map(([name, content]) => [
    name,
    Buffer.from(content).toString("base64"),
  ]);
  return Buffer.from(JSON.stringify(Object.fromEntries(encoded))).toString("base64");
}
