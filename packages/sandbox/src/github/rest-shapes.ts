/** The bodies of GitHub's REST answers (runner-contract §7.2, §8.3, §8.4, §8.6). */
import { randomBytes } from "node:crypto";
import type { Fleet } from "./fleet.ts";
import type { MutableJob, Runner } from "./fleet-types.ts";
import type { Refusal } from "./http.ts";

const runnerTypes = new Set(["self-hosted", "linux", "macos", "windows", "x64", "arm64", "arm", "x86"]);
const documentation = "https://docs.github.com/rest/actions/self-hosted-runners";

/** GitHub's error body; `status` is a string there. */
export function errorBody(refusal: Refusal) {
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

export function restJob(job: MutableJob) {
  return {
    id: job.id,
    run_id: job.runId,
    run_attempt: job.runAttempt,
    status: job.status,
    conclusion: job.conclusion,
    created_at: job.createdAt,
    started_at: job.startedAt,
    completed_at: job.completedAt,
    name: job.displayName,
    labels: job.labels,
    runner_id: job.runnerId,
    runner_name: job.runnerName,
    workflow_name: job.workflow,
    steps: [],
  };
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
