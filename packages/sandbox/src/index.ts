export { freePort } from "./free-port.ts";
export { type AppKey, createAppKey } from "./github/app-key.ts";
export { connectGithub, queueJob } from "./github/client.ts";
export { startGithub } from "./github/github.ts";
export type {
  Fault,
  Github,
  GithubControl,
  GithubOptions,
  Job,
  JobConclusion,
  JobRequest,
  JobStatus,
  RequestRecord,
  RunnerRecord,
  TaskResult,
} from "./github/types.ts";
export { type GoAgent, type GoAgentOptions, startGoAgent } from "./go-agent/go-agent.ts";
export { type InstalledRunner, installRunner, type RunnerOptions } from "./runner/install-runner.ts";
export {
  type JobOverrides,
  listScenarios,
  type Scenario,
  type ScenarioName,
} from "./runner/scenarios.ts";
