import type { MutableJob, Runner } from "./fleet-types.ts";

/** The body of an acquired job as the Worker gets it; `standIn` is what the real one does not have. */
export function jobMessage(job: MutableJob, runner: Runner, baseUrl: string) {
  const [owner = ""] = job.repository.split("/");
  const github = {
    actor: "octocat",
    actor_id: "1",
    api_url: `${baseUrl}/api/v3`,
    event_name: "push",
    event: JSON.stringify({ ref: "refs/heads/main", repository: { full_name: job.repository } }),
    graphql_url: `${baseUrl}/api/graphql`,
    job: job.jobKey,
    ref: "refs/heads/main",
    ref_name: "main",
    ref_protected: "false",
    ref_type: "branch",
    repository: job.repository,
    repository_id: "42",
    repository_owner: owner,
    repository_owner_id: "7",
    retention_days: "90",
    run_attempt: String(job.runAttempt),
    run_id: String(job.runId),
    run_number: String(job.runId - 9_000_000),
    server_url: baseUrl,
    sha: "0123456789abcdef0123456789abcdef01234567",
    triggering_actor: "octocat",
    workflow: job.workflow,
    workflow_ref: `${job.repository}/.github/workflows/ci.yml@refs/heads/main`,
    workflow_sha: "0123456789abcdef0123456789abcdef01234567",
  };
  return {
    messageType: "RunnerJobRequest",
    plan: { planId: job.guid, planType: "free" },
    jobId: job.guid,
    requestId: 0,
    jobDisplayName: job.displayName,
    variables: { "system.github.job": { value: job.jobKey } },
    // The real encoding: a tagged dictionary of keys and values (runner-contract §5).
    contextData: { github: { t: 2, d: Object.entries(github).map(([k, v]) => ({ k, v })) } },
    runServiceUrl: `${baseUrl}/run/`,
    runnerName: runner.name,
    standIn: { scenario: job.scenario, overrides: job.overrides },
  };
}

export type JobMessage = ReturnType<typeof jobMessage>;
