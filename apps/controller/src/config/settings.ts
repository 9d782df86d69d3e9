/**
 * Every setting of the controller, once. Its flag, its variable and its place in the YAML file follow from the
 * name: `github.api_url` is `--github-api-url`, `MIG_GITHUB_API_URL` and `github: { api_url: … }`. `--help`,
 * `mig-controller config` and the documents are made from this table.
 */
export type SettingKind =
  | "text"
  | "switch"
  | "duration"
  | "address"
  | "path"
  | "url"
  | "list"
  | "choice"
  | "count";

export interface Setting {
  readonly kind: SettingKind;
  /** As a person would write it; absent = unset. */
  readonly fallback?: string;
  readonly choices?: readonly string[];
  readonly isSecret?: boolean;
  /** Further names of the variable, for what the world already calls it. */
  readonly alsoEnv?: string;
  readonly help: string;
}

export const settings = {
  listen: { kind: "address", fallback: "127.0.0.1:8080", help: "HTTP and gRPC on one port" },
  grpc_listen: { kind: "address", fallback: "127.0.0.1:50051", help: 'the same on a second port, or "off"' },
  "tls.cert_file": {
    kind: "path",
    help: "PEM file of the certificate that both ports serve, with its intermediates; read again when it changes",
  },
  "tls.key_file": { kind: "path", help: "PEM file of its key" },
  "tls.client_ca_file": {
    kind: "path",
    help: "PEM file of the authorities whose client certificates are good",
  },
  "tls.client_certs": {
    kind: "choice",
    choices: ["off", "optional", "required"],
    help: "whether clients bring a certificate; default: optional with tls.client_ca_file, else off",
  },
  "tls.min_version": {
    kind: "choice",
    choices: ["1.3", "1.2"],
    fallback: "1.3",
    help: "the oldest TLS that is spoken",
  },
  insecure_plaintext: {
    kind: "switch",
    fallback: "false",
    help: "serve other machines without TLS: tokens travel in clear text",
  },
  data_dir: { kind: "path", fallback: "./controller_data", help: "embedded database and sample files" },
  database_url: {
    kind: "text",
    isSecret: true,
    alsoEnv: "DATABASE_URL",
    help: "a PostgreSQL server instead of the embedded database",
  },
  database_prepare: {
    kind: "switch",
    fallback: "true",
    help: "prepare statements on the server; false behind a pooler in transaction mode that cannot carry them",
  },
  sample: {
    kind: "switch",
    fallback: "false",
    help: "the sample controller: no GitHub, no authentication, loopback only",
  },
  dev: { kind: "switch", fallback: "false", help: "development: no authentication, loopback only" },
  registration_token: {
    kind: "text",
    isSecret: true,
    fallback: "AHTXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX",
    help: "what sample mode hands to every VM; the default is a fake",
  },
  runner_url: {
    kind: "url",
    fallback: "https://github.com/testorg",
    help: "default pool: where its runners register",
  },
  runner_group: { kind: "text", fallback: "default", help: "default pool: its runner group" },
  labels: { kind: "list", fallback: "self-hosted,linux,x64", help: "default pool: its labels" },
  agent_token_file: {
    kind: "path",
    help: "holds one bearer token for all agents: for existing agents and for trying out; VMs join without it",
  },
  operator_token_file: {
    kind: "path",
    help: "holds an administrator's bearer token; without it the first start prints an API key",
  },
  "github.api_url": { kind: "url", fallback: "https://api.github.com", help: "GitHub's REST API" },
  "github.app_id": { kind: "count", help: "the GitHub App" },
  "github.private_key_file": { kind: "path", help: "the private key of the App (PEM)" },
  "github.installation_id": { kind: "count", help: "its installation; found by organization when unset" },
  "github.group_policy": {
    kind: "choice",
    choices: ["warn", "deny"],
    fallback: "warn",
    help: "whether `migctl github check` only warns of a runner group that is open to more than selected private repositories, or fails",
  },
  "secrets.master_key": {
    kind: "text",
    help: "reference to the keys that encrypt secrets in the database; default: a file below data_dir, made at the first start",
  },
  "secrets.allow_env": {
    kind: "switch",
    fallback: "false",
    help: "secrets may be in the environment (env://) outside development mode",
  },
  "secrets.vault.address": {
    kind: "url",
    help: "HashiCorp Vault or OpenBao, for vault:// and vault-transit://",
  },
  "secrets.vault.namespace": { kind: "text", help: "its namespace" },
  "secrets.vault.token": { kind: "text", help: "reference to the token for it, as file:///run/vault/token" },
  "secrets.vault.role": { kind: "text", help: "log in by Kubernetes with this role, in place of a token" },
  "secrets.vault.auth_mount": {
    kind: "text",
    help: "where the Kubernetes login is mounted; default kubernetes",
  },
  "secrets.vault.ca_file": { kind: "path", help: "PEM file of its certificate authority" },
  "secrets.gcp.endpoint": { kind: "url", help: "another address of Google Secret Manager, for gcpsm://" },
  "secrets.gcp.key_file": {
    kind: "path",
    help: "a service account's key file; default: the machine's identity",
  },
  "secrets.aws.region": { kind: "text", help: "for awssm:// references without one" },
  "secrets.aws.endpoint": { kind: "url", help: "another address of AWS Secrets Manager" },
  "secrets.kubernetes.api": {
    kind: "url",
    help: "for k8s://; default: the cluster that the controller runs in",
  },
  "secrets.kubernetes.token_file": { kind: "path", help: "the service account's token; default: the pod's" },
  "secrets.kubernetes.ca_file": {
    kind: "path",
    help: "the cluster's certificate authority; default: the pod's",
  },
  "join.gcp_keys_url": {
    kind: "url",
    fallback: "https://www.googleapis.com/oauth2/v3/certs",
    help: "Google's keys, which instance identity tokens are signed with",
  },
  "join.aws_certificates_file": {
    kind: "path",
    help: "PEM file with AWS's rsa2048 certificates, each after a line `# REGION`; VMs of other regions cannot join by the method aws",
  },
  "join.aws_sts_url": { kind: "url", help: "another address of AWS STS, where signed calls of VMs are sent" },
  "oidc.issuer": {
    kind: "text",
    help: "OpenID provider whose tokens operators may bring in place of an API key, exactly as it names itself",
  },
  "oidc.audience": { kind: "text", help: "whom its tokens are for: the client id that MIG has there" },
  "oidc.jwks_url": { kind: "url", help: "where its keys are; default: what its discovery document says" },
  "oidc.claim": {
    kind: "text",
    fallback: "groups",
    help: "the claim that oidc.roles (a list in the file) gives roles by; a path as realm_access.roles, too",
  },
  "oidc.max_token_age": {
    kind: "duration",
    fallback: "12h",
    help: "a token that was issued longer ago is refused, whatever its own expiry",
  },
  "join.trust_domain": {
    kind: "text",
    fallback: "mig",
    help: "whose SPIFFE ids in client certificates name VMs: spiffe://DOMAIN/org/ORG/pool/POOL/vm/VM",
  },
  "nats.url": {
    kind: "list",
    help: "NATS servers with JetStream, as tls://nats.example:4222: agents may then use the channel nats; unset: there is none",
  },
  "nats.agent_url": { kind: "list", help: "the same servers as agents reach them; default: nats.url" },
  "nats.credentials_file": {
    kind: "path",
    help: "what the controller says to NATS: a .creds file, USER:PASSWORD, or a token",
  },
  "nats.ca_file": { kind: "path", help: "PEM file of the NATS servers' certificate authority" },
  "nats.prefix": { kind: "text", fallback: "mig", help: "what all its subjects and streams begin with" },
  "nats.account_seed_file": {
    kind: "path",
    help: "the seed (SA…) of the NATS account's key or signing key: each VM gets credentials of its own, for its own subjects",
  },
  "nats.account": {
    kind: "text",
    help: "the account's public key (A…), where nats.account_seed_file holds a signing key",
  },
  "nats.replicas": { kind: "count", fallback: "1", help: "servers that keep a copy of each stream" },
  heartbeat_interval: { kind: "duration", fallback: "15s", help: "how often agents report" },
  unreachable_after: { kind: "duration", fallback: "45s", help: "silence after which a VM is unreachable" },
  lost_after: { kind: "duration", fallback: "2m", help: "silence after which a VM is written off" },
  lost_with_job_after: { kind: "duration", fallback: "5m", help: "the same while it runs a job" },
  startup_grace: {
    kind: "duration",
    help: "nobody is called silent so long after a start; default: unreachable_after",
  },
  command_ack_timeout: {
    kind: "duration",
    fallback: "10s",
    help: "an unacknowledged command is sent again after it",
  },
  command_expiry: { kind: "duration", fallback: "1h", help: "an undelivered command is dropped after it" },
  fleet_order_retention: {
    kind: "duration",
    fallback: "90d",
    help: "a fleet order that has ended is forgotten after it, with the list of its VMs",
  },
  shutdown_grace: {
    kind: "duration",
    fallback: "10s",
    help: "time for requests under way when the controller stops",
  },
  connection_timeout: {
    kind: "duration",
    fallback: "10s",
    help: "a connection that says nothing whole in it is closed",
  },
  "limits.connections_per_second": {
    kind: "count",
    fallback: "300",
    help: "new connections on each port; more are closed before anybody is asked who they are",
  },
  "limits.vm_per_second": {
    kind: "count",
    fallback: "20",
    help: "requests and stream messages of one VM; five times as many at once",
  },
  "limits.pool_per_second": {
    kind: "count",
    fallback: "2000",
    help: "the same of all VMs of a pool together",
  },
  "limits.org_per_second": {
    kind: "count",
    fallback: "4000",
    help: "the same of all VMs and operators of an organization together",
  },
  "limits.operator_per_second": { kind: "count", fallback: "50", help: "requests with one API key" },
  "limits.unknown_per_second": {
    kind: "count",
    fallback: "300",
    help: "requests without a good token, joins among them, from one address",
  },
  "limits.shed_load": {
    kind: "switch",
    fallback: "true",
    help: "a replica that cannot keep up refuses what can wait: lists first, then events and heartbeats, then joins",
  },
  "feed.keep": {
    kind: "duration",
    fallback: "1h",
    help: "whoever watches the live feed may have been away for so long without missing anything",
  },
  "feed.keep_rows": {
    kind: "count",
    fallback: "1000000",
    help: "and at most for about so many changes; the events of one commit are one",
  },
  "feed.streams": { kind: "count", fallback: "200", help: "live feeds on one replica" },
  "feed.streams_per_caller": { kind: "count", fallback: "20", help: "live feeds with one API key" },
  connections_max: { kind: "count", fallback: "20000", help: "connections on each port" },
  log_level: {
    kind: "choice",
    choices: ["debug", "info", "warn", "error"],
    fallback: "info",
    help: "what is logged",
  },
  log_format: {
    kind: "choice",
    choices: ["json", "text"],
    help: "default: text in sample and development mode, else json",
  },
} as const satisfies Record<string, Setting>;

export type SettingName = keyof typeof settings;
export const settingNames = Object.keys(settings) as SettingName[];

export function describe(name: SettingName): Setting {
  return settings[name];
}

export function isSettingName(name: string): name is SettingName {
  return Object.hasOwn(settings, name);
}

export function flagOf(name: SettingName): string {
  return `--${name.replaceAll(/[._]/g, "-")}`;
}

export function variableOf(name: SettingName): string {
  return `MIG_${name.replaceAll(".", "_").toUpperCase()}`;
}
