export { type AwsRegion, type AwsRoleSession, createAwsRegion, startAwsSts } from "./cloud/aws-identity.ts";
export { type AwsMetadata, type AwsMetadataOptions, startAwsMetadata } from "./cloud/aws-metadata.ts";
export { type GcpIdentity, type GcpTokenChange, startGcpIdentity } from "./cloud/gcp-identity.ts";
export { type GcpMetadata, type GcpMetadataOptions, startGcpMetadata } from "./cloud/gcp-metadata.ts";
export type { MetadataFault, MetadataRequest, MetadataServer } from "./cloud/metadata-server.ts";
export { freePort } from "./free-port.ts";
export { type AppKey, createAppKey } from "./github/app-key.ts";
export { type BadAddress, badAddresses } from "./github/bad-addresses.ts";
export { connectGithub, queueJob } from "./github/client.ts";
export type { Delivery, Fault } from "./github/fault-types.ts";
export { startGithub } from "./github/github.ts";
export {
  type GithubCall,
  type GithubFault,
  type GithubFaultKind,
  githubCalls,
  githubFaults,
} from "./github/github-faults.ts";
export { type GithubLimits, githubLimits } from "./github/limits.ts";
export type { EarlyCall, GithubTraffic } from "./github/traffic.ts";
export type {
  Github,
  GithubControl,
  GithubOptions,
  Job,
  JobConclusion,
  JobRequest,
  JobStatus,
  RequestRecord,
  RunnerGroup,
  RunnerRecord,
  TaskResult,
} from "./github/types.ts";
export { type GoAgent, type GoAgentOptions, startGoAgent } from "./go-agent/go-agent.ts";
export {
  type IssuerKey,
  type OidcIssuer,
  startOidcIssuer,
  type TokenOptions,
} from "./identity/oidc-issuer.ts";
export { hasNatsServer, type NatsServer, startNatsServer } from "./nats/nats-server.ts";
export { type InstalledRunner, installRunner, type RunnerOptions } from "./runner/install-runner.ts";
export {
  type JobOverrides,
  listScenarios,
  type Scenario,
  type ScenarioName,
} from "./runner/scenarios.ts";
export {
  type AwsSecretsManager,
  type AwsSecretsManagerOptions,
  startAwsSecretsManager,
} from "./secrets/aws-secrets.ts";
export { type GcpSecretManager, startGcpSecretManager } from "./secrets/gcp-secrets.ts";
export { type KubernetesApi, startKubernetesApi } from "./secrets/kubernetes-api.ts";
export { createSecretMount, type SecretMount } from "./secrets/secret-mount.ts";
export type { StoreFault, StoreRequestRecord, StoreServer, TlsFiles } from "./secrets/store-server.ts";
export { startVault } from "./secrets/vault.ts";
export type { Vault, VaultOptions, VaultRole } from "./secrets/vault-types.ts";
export {
  createTestCa,
  type TestCa,
  type TestCertificate,
  type TestCertificateRequest,
} from "./tls/test-ca.ts";
