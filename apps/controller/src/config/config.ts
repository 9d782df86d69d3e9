import { resolve } from "node:path";
import { type LogLevel, logLevels } from "@mig/kit";
import type { AppConfig } from "./apps.ts";
import { readDirectory } from "./directory.ts";
import type { Invocation, Problem } from "./env.ts";
import { type GitHubConfig, readGitHub } from "./github.ts";
import { type JoinConfig, readJoin } from "./join.ts";
import { type NatsConfig, readNats } from "./nats.ts";
import { type OidcConfig, readOidc } from "./oidc.ts";
import type { OrgConfig } from "./orgs.ts";
import type { PoolConfig } from "./pools.ts";
import { Secret } from "./secret.ts";
import { readSecretFile } from "./secret-file.ts";
import { readSecretSettings, type SecretConfig } from "./secret-settings.ts";
import type { SettingName } from "./settings.ts";
import { demandTls, readTls } from "./tls.ts";
import type { TlsConfig } from "./tls-material.ts";
import { type Address, type Effective, formatAddress, isLoopback, Values } from "./values.ts";

/**
 * sample  the sample controller of seeds 002 and 004: a fixed token, every message also in a file
 * dev     everything real except that nobody has to say who they are
 * normal  agents and operators bring bearer tokens, GitHub gives the grants
 *
 * The first two listen on loopback only: without authentication whoever reaches the port owns the fleet.
 */
export type Mode = "sample" | "dev" | "normal";

export interface Config {
  mode: Mode;
  listen: Address;
  /** Undefined: there is no second port. */
  grpcListen: Address | undefined;
  /** Undefined: plaintext. */
  tls: TlsConfig | undefined;
  insecurePlaintext: boolean;
  /** Absolute. */
  dataDir: string;
  databaseUrl: Secret | undefined;
  databasePrepare: boolean;
  /**
   * Bearer tokens from files: the one that all agents share, and an administrator's. Either may be absent: VMs join and
   * operators have API keys. Undefined in sample and dev mode: nobody is asked.
   */
  tokens: { agent: Secret | undefined; operator: Secret | undefined } | undefined;
  registrationToken: Secret;
  /** The one App of `github.app_id`; it is among `apps` too. */
  github: GitHubConfig | undefined;
  /** What the file sets up; more may be set up over the API. Without any App, sample and dev mode give out `registrationToken`. */
  apps: readonly AppConfig[];
  orgs: readonly OrgConfig[];
  pools: readonly PoolConfig[];
  /** For VMs of a pool that is not listed; undefined = they are refused. */
  defaultPool: PoolConfig | undefined;
  /** What a pool takes that leaves something out. */
  poolBase: PoolConfig;
  /** Of Apps that name no other. */
  githubApiUrl: string;
  groupPolicy: "warn" | "deny";
  secrets: SecretConfig;
  pace: PaceConfig;
  startupGraceMs: number;
  shutdownGraceMs: number;
  connectionTimeoutMs: number;
  connectionsMax: number;
  limits: LimitsConfig;
  feed: FeedConfig;
  join: JoinConfig;
  /** Undefined: operators have API keys only. */
  oidc: OidcConfig | undefined;
  /** Undefined: no such channel. */
  nats: NatsConfig | undefined;
  log: { level: LogLevel; format: "json" | "text" };
}

/** A second; a burst is five times as much. Each replica counts for itself. */
export interface LimitsConfig {
  connections: number;
  vm: number;
  pool: number;
  org: number;
  operator: number;
  unknown: number;
  /** Refuse what can wait when this replica cannot keep up. */
  shedLoad: boolean;
}

export interface FeedConfig {
  keepMs: number;
  keepRows: number;
  streams: number;
  streamsPerCaller: number;
}

export interface PaceConfig {
  heartbeatIntervalMs: number;
  unreachableAfterMs: number;
  lostAfterMs: number;
  lostWithJobAfterMs: number;
  commandAckMs: number;
  commandExpiryMs: number;
  fleetKeptMs: number;
}

export type Outcome =
  | { ok: true; config: Config; effective: Effective[] }
  | { ok: false; problems: Problem[]; effective: Effective[] };

/** Everything that an invocation says, checked against itself. All problems at once, each with its remedy. */
export function buildConfig(invocation: Invocation): Outcome {
  const values = new Values(invocation.values, [...invocation.problems]);
  const mode = readMode(values);
  const github = readGitHub(values, invocation, mode);
  const directory = readDirectory(values, invocation, mode, github);
  const pace = readPace(values);
  const insecurePlaintext = values.switch("insecure_plaintext");
  const config: Config = {
    mode,
    listen: readListen(values),
    grpcListen: values.address("grpc_listen"),
    tls: readTls(values),
    insecurePlaintext,
    dataDir: resolve(values.text("data_dir") ?? "."),
    databaseUrl: readDatabaseUrl(values),
    databasePrepare: values.switch("database_prepare"),
    tokens: readTokens(values, mode),
    registrationToken: new Secret(values.text("registration_token") ?? ""),
    github: github.single,
    ...directory,
    githubApiUrl: github.apiUrl,
    groupPolicy: values.choice("github.group_policy", ["warn", "deny"]) ?? "warn",
    secrets: readSecretSettings(values, invocation, mode, directory.apps),
    pace,
    startupGraceMs: values.durationMs("startup_grace", { otherwise: pace.unreachableAfterMs || 1, minMs: 0 }),
    shutdownGraceMs: values.durationMs("shutdown_grace", { minMs: 0 }),
    connectionTimeoutMs: values.durationMs("connection_timeout", { minMs: 50 }),
    connectionsMax: values.count("connections_max") ?? 1,
    join: readJoin(values),
    oidc: readOidc(values, invocation),
    nats: readNats(values, insecurePlaintext),
    limits: {
      shedLoad: values.switch("limits.shed_load"),
      connections: values.count("limits.connections_per_second") ?? 1,
      vm: values.count("limits.vm_per_second") ?? 1,
      pool: values.count("limits.pool_per_second") ?? 1,
      org: values.count("limits.org_per_second") ?? 1,
      operator: values.count("limits.operator_per_second") ?? 1,
      unknown: values.count("limits.unknown_per_second") ?? 1,
    },
    feed: {
      keepMs: values.durationMs("feed.keep", { minMs: 1_000 }),
      keepRows: values.count("feed.keep_rows") ?? 1,
      streams: values.count("feed.streams") ?? 1,
      streamsPerCaller: values.count("feed.streams_per_caller") ?? 1,
    },
    log: {
      level: values.choice("log_level", logLevels) ?? "info",
      format: values.choice("log_format", ["json", "text"], mode === "normal" ? "json" : "text") ?? "json",
    },
  };
  if (mode !== "normal") demandLoopback(values, config);
  demandTls(values, config);
  const { problems, effective } = values;
  return problems.length === 0 ? { ok: true, config, effective } : { ok: false, problems, effective };
}

function readMode(values: Values): Mode {
  const sample = values.switch("sample");
  const dev = values.switch("dev");
  if (sample && dev) values.refuse("dev", "excludes --sample; choose one");
  return sample ? "sample" : dev ? "dev" : "normal";
}

function readListen(values: Values): Address {
  const address = values.address("listen");
  if (address === undefined && values.text("listen") === "off") {
    values.refuse("listen", "cannot be off: the HTTP API is there");
  }
  return address ?? { host: "127.0.0.1", port: 0 };
}

function demandLoopback(values: Values, { mode, listen, grpcListen }: Config): void {
  for (const [name, address] of [
    ["listen", listen],
    ["grpc_listen", grpcListen],
  ] as const) {
    if (address === undefined || isLoopback(address.host)) continue;
    values.refuse(
      name,
      `would serve ${formatAddress(address)} without authentication: ${mode} mode listens on loopback only. ` +
        `Listen on 127.0.0.1, or leave out --${mode}: VMs then join with tokens, and operators bring API keys`,
    );
  }
}

function readDatabaseUrl(values: Values): Secret | undefined {
  const text = values.text("database_url");
  if (text === undefined) return undefined;
  if (!/^postgres(?:ql)?:\/\//.test(text))
    values.refuse("database_url", "must begin with postgres:// or postgresql://");
  return new Secret(text);
}

function readTokens(values: Values, mode: Mode): Config["tokens"] {
  const agent = readSecretFile(values, "agent_token_file");
  const operator = readSecretFile(values, "operator_token_file");
  if (mode !== "normal") return undefined;
  if (agent !== undefined && operator !== undefined && agent.matches(operator.reveal()))
    values.refuse("operator_token_file", "must hold another token than agent_token_file");
  return { agent, operator };
}

function readPace(values: Values): PaceConfig {
  const pace: PaceConfig = {
    heartbeatIntervalMs: values.durationMs("heartbeat_interval", { minMs: 100 }),
    unreachableAfterMs: values.durationMs("unreachable_after"),
    lostAfterMs: values.durationMs("lost_after"),
    lostWithJobAfterMs: values.durationMs("lost_with_job_after"),
    commandAckMs: values.durationMs("command_ack_timeout", { minMs: 100 }),
    commandExpiryMs: values.durationMs("command_expiry", { minMs: 1000 }),
    fleetKeptMs: values.durationMs("fleet_order_retention", {
      minMs: 60_000,
      maxMs: 3_650 * 86_400_000,
    }),
  };
  const must = (holds: boolean, name: SettingName, rule: string): void => {
    if (!holds) values.refuse(name, rule);
  };
  // Comparisons with a value that could not be read are false both ways: only its own problem is told.
  must(
    !(pace.unreachableAfterMs <= pace.heartbeatIntervalMs),
    "unreachable_after",
    "must be longer than heartbeat_interval",
  );
  must(!(pace.lostAfterMs <= pace.unreachableAfterMs), "lost_after", "must be longer than unreachable_after");
  must(
    !(pace.lostWithJobAfterMs < pace.lostAfterMs),
    "lost_with_job_after",
    "must not be shorter than lost_after",
  );
  must(
    !(pace.commandExpiryMs <= pace.commandAckMs),
    "command_expiry",
    "must be longer than command_ack_timeout",
  );
  return pace;
}
