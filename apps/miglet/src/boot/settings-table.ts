import {
  address,
  boolean,
  choice,
  duration,
  id,
  type Kind,
  list,
  loopbackAddress,
  natsUrl,
  path,
  pin,
  runnerVersion,
  secret,
  sha256,
  text,
  url,
  wholeNumber,
  words,
} from "./setting-kinds.ts";

/**
 * Every setting: the key in the YAML file (seed 001 "miglet.yaml", reference/go-agent-wire.md §8, then ours), what it
 * takes, what it is without one, what it is for. The variable is MIGLET_ and the key in capitals, the flag the key.
 */
export interface Spec<T> {
  readonly kind: Kind<NonNullable<T>> | Kind<T>;
  readonly fallback: T | typeof required;
  readonly about: string;
}

export const required = Symbol("required");

const must = <T>(kind: Kind<T>, about: string): Spec<T> => ({ kind, fallback: required, about });
const may = <T>(kind: Kind<T>, about: string): Spec<T | undefined> => ({
  kind,
  fallback: undefined,
  about,
});
const usually = <T>(kind: Kind<T>, fallback: NoInfer<T>, about: string): Spec<T> => ({
  kind,
  fallback,
  about,
});

const second = 1000;
const minute = 60 * second;
const hour = 60 * minute;

export const settingsTable = {
  pool_id: may(id, "The pool that this VM belongs to; required unless the VM joins, which tells it."),
  vm_id: must(id, "The name of this VM, unique at the controller."),
  org_id: may(id, "The organization of the pool; joining tells it too."),
  state_dir: usually(
    path,
    "/var/lib/miglet",
    "What must survive a restart of the agent: events, commands, the runner's process.",
  ),

  "controller.endpoint": may(url, "The controller's HTTP address."),
  "controller.grpc_endpoint": may(
    address,
    "The controller's gRPC address; host and port of controller.endpoint without it.",
  ),
  "controller.channel": usually(
    choice("auto", "grpc", "websocket", "sse", "poll", "nats"),
    "auto",
    "How commands come: auto tries NATS if nats.url is set, then gRPC, WebSocket, server-sent events and HTTP polling, in this order.",
  ),
  "controller.auth.type": may(
    choice("none", "bearer"),
    "bearer sends the token of controller.auth.token_path or controller.auth.token.",
  ),
  "controller.auth.token_path": may(path, "File with the bearer token; read again when it changes."),
  "controller.auth.token": may(
    secret,
    "The bearer token itself, for metadata; a file is better, and the command line is refused.",
  ),
  "join.method": may(
    choice("none", "token", "gcp", "aws", "mtls"),
    "How the VM proves at first what it is: gcp and aws by what the cloud signs for it, mtls with the certificate of controller.tls.cert_path; token, also without this where join.token or join.token_path is set.",
  ),
  "join.token": may(
    secret,
    "An enrolment token of the controller (mgj_…), for metadata; the VM's own key takes over from it.",
  ),
  "join.token_path": may(path, "File with the enrolment token; it may come later than the agent."),
  "controller.ca_path": may(path, "PEM file of a private certificate authority."),
  "controller.tls.cert_path": may(path, "PEM file of this VM's client certificate, for mutual TLS."),
  "controller.tls.key_path": may(path, "PEM file of its key; both are read again when they change."),
  "controller.tls.ca_pin": may(
    pin,
    "sha256: and the digest of a public key (SPKI) that must be in the server's chain, beside all else that is verified.",
  ),
  "controller.timeout": usually(duration(second, 10 * minute), 30 * second, "For one HTTP request."),
  "controller.give_up_after": usually(
    duration(0, 7 * 24 * hour),
    hour,
    "An agent without a runner and without a controller ends after this; 0 = never.",
  ),
  "controller.retry.initial_backoff": usually(
    duration(1, hour),
    second,
    "The first wait before something is tried again.",
  ),
  "controller.retry.max_backoff": usually(duration(1, hour), 30 * second, "The longest such wait."),
  "controller.retry.max_attempts": usually(
    wholeNumber(1, 1_000),
    5,
    "Not used: events are sent until they are acknowledged. Kept for existing files.",
  ),

  "nats.url": may(
    natsUrl,
    "NATS servers for the channel nats; without it the controller tells where they are.",
  ),
  "nats.credentials_file": may(
    path,
    "A .creds file, USER:PASSWORD or a token for them; without it the controller gives this VM credentials of its own.",
  ),
  "nats.prefix": usually(text, "mig", "What the subjects begin with, where the controller is not asked."),

  "metadata.source": usually(
    choice("auto", "gcp", "aws", "none"),
    "auto",
    "Whose instance metadata is read; auto asks which cloud this is. Not settable by metadata.",
  ),
  "metadata.endpoint": usually(
    url,
    "http://169.254.169.254",
    "Where the metadata service answers. Not settable by metadata.",
  ),
  "metadata.timeout": usually(
    duration(50, minute),
    second,
    "For one question to the metadata service. Not settable by metadata.",
  ),
  "metadata.watch_preemption": usually(
    boolean,
    true,
    "Drain when the cloud says that it will take this VM away.",
  ),

  "github.org": may(text, "For people, and for a bare token in metadata; any other grant says it itself."),
  "github.runner_url": may(
    url,
    "Where a bare token in metadata is for; https://github.com/ and github.org without it.",
  ),
  "github.runner_group": may(text, "When the grant names no group."),
  "github.labels": usually(list, [], "When the grant names no labels."),
  "github.token_source": usually(
    choice("controller", "metadata"),
    "controller",
    "Where grants come from: metadata also takes one that lies in the instance's metadata.",
  ),
  "github.metadata_path": may(
    text,
    "Where that grant lies; /metadata/github/registration_token without it, as the attribute or tag github-registration_token.",
  ),
  "github.metadata_interval": usually(
    duration(second, hour),
    15 * second,
    "How long until an agent that waits for a grant looks there again.",
  ),
  "github.registration_timeout": usually(
    duration(second, hour),
    5 * minute,
    "For config.sh; its own three tries take up to five minutes.",
  ),

  "runner.dir": usually(
    path,
    "/opt/actions-runner",
    "Where the image has actions/runner, not configured. Used when it is there and of the right version.",
  ),
  "runner.version": may(
    runnerVersion,
    "The version to run, unless the controller names one; without either, the one of runner.dir.",
  ),
  "runner.sha256": may(sha256, "Of the archive of runner.version for this machine; needed to download it."),
  "runner.download_url": usually(
    url,
    "https://github.com/actions/runner/releases/download/v{version}/actions-runner-{platform}-{version}.tar.gz",
    "Where the archive is; {version} and {platform} (linux-x64, linux-arm64) are filled in.",
  ),
  "runner.download_timeout": usually(
    duration(second, 6 * hour),
    15 * minute,
    "For the download, with its retries.",
  ),
  "runner.download_proxy": may(url, "Proxy for the download; https_proxy or http_proxy without it."),
  "runner.download_ca_path": may(path, "PEM file of a private certificate authority for the download."),
  "runner.install_root": usually(
    path,
    "/opt/miglet/runners",
    "A downloaded runner gets a fresh directory below this one.",
  ),
  "runner.launcher": usually(
    choice("listener", "run.sh"),
    "listener",
    "What is started: bin/Runner.Listener, whose exit code tells the truth, or the script around it.",
  ),
  "runner.scope": usually(
    choice("auto", "systemd", "none"),
    "auto",
    "Whether the runner gets a systemd scope of its own; auto: when systemd manages the agent.",
  ),
  "runner.reuse": usually(boolean, false, "Register another runner after a job instead of shutting down."),
  "runner.user": may(text, "The user that the runner runs as, when the agent is root."),
  "runner.allow_root": usually(
    boolean,
    false,
    "Let the runner, and so every job, run as root. RUNNER_ALLOW_RUNASROOT says the same.",
  ),
  "runner.disable_update": usually(boolean, false, "Tell the runner not to update itself."),
  "runner.start_timeout": usually(
    duration(second, hour),
    5 * minute,
    "From the start of the runner until it must listen for jobs.",
  ),
  "runner.user_hooks.started": may(path, "Your own job-started hook, run after ours."),
  "runner.user_hooks.completed": may(path, "Your own job-completed hook, run after ours."),

  "limits.idle_timeout": usually(
    duration(0, 7 * 24 * hour),
    30 * minute,
    "A runner that had no job for so long is drained; 0 = never.",
  ),
  "limits.max_lifetime": usually(
    duration(0, 24 * 24 * hour),
    24 * hour,
    "A VM that is up for so long takes no new job and ends; 0 = never. A running job finishes.",
  ),
  "limits.disk_free_mib": usually(
    wholeNumber(0, 999_999_999),
    256,
    "Less free space on the runner's disk drains the VM; 0 = never.",
  ),
  "limits.memory_available_mib": usually(
    wholeNumber(0, 999_999_999),
    0,
    "Less available memory drains the VM; 0 = never.",
  ),

  "heartbeat.interval": usually(
    duration(second, hour),
    15 * second,
    "Until the controller says another one.",
  ),
  "heartbeat.timeout": usually(
    duration(second, hour),
    minute,
    "A heartbeat without an answer for so long means that the channel is dead (at most 10s is waited).",
  ),

  "shutdown.grace_period": usually(
    duration(0, 24 * hour),
    30 * second,
    "From interrupting a runner that must stop to killing it.",
  ),
  "shutdown.force_after": usually(
    duration(0, 24 * hour),
    5 * minute,
    "How long a running job may go on after SIGTERM.",
  ),
  "shutdown.flush_timeout": usually(
    duration(0, hour),
    10 * second,
    "How long the last events may take to be delivered.",
  ),
  "shutdown.command": usually(words, [], "Run at the very end, for example: systemctl poweroff."),

  "logging.level": usually(choice("debug", "info", "warn", "error"), "info", "The least that is logged."),
  "logging.format": usually(choice("json", "text"), "json", "One JSON object a line, or text for people."),
  "logging.redact_secrets": usually(
    boolean,
    true,
    "Not used: secrets are always taken out. Kept for existing files.",
  ),

  "metrics.collection_interval": usually(
    duration(second, hour),
    10 * second,
    "How often figures of the machine and of the job are taken.",
  ),
  "metrics.include_disk": usually(boolean, true, "Heartbeats say how full the runner's disk is."),
  "metrics.include_network": usually(boolean, true, "Heartbeats say what the network carried."),
  "metrics.listen": may(
    loopbackAddress,
    "Serve /metrics (Prometheus) and /status there; not served without it.",
  ),

  "prerequisites.disk_free_mib": usually(
    wholeNumber(0, 999_999_999),
    1024,
    "Free space that the runner's disk must have.",
  ),
  "prerequisites.network": usually(
    boolean,
    false,
    "The controller must be reachable before anything begins.",
  ),
  "prerequisites.github": usually(boolean, false, "GitHub must be reachable before anything begins."),
  "prerequisites.github_url": usually(
    url,
    "https://api.github.com",
    "What is asked to know whether GitHub is reachable; for GHES its own address.",
  ),
  "prerequisites.docker": usually(boolean, false, "Docker must be there and answer the runner's user."),
  "prerequisites.mounts": usually(list, [], "Directories that must be mounted, for example /mnt/work."),
} as const satisfies Record<string, Spec<unknown>>;

export type SettingKey = keyof typeof settingsTable;
type ValueOf<S> = S extends Spec<infer T> ? T : never;
export type Settings = { readonly [K in SettingKey]: ValueOf<(typeof settingsTable)[K]> };

export const settingKeys = Object.keys(settingsTable) as SettingKey[];

/** Of existing agents. A VM has no business with a database (go-agent-wire A26), so these only draw a warning. */
export const retiredKeys: readonly string[] = [
  "storage.mongodb.enabled",
  "storage.mongodb.connection_string",
  "storage.mongodb.database",
  "storage.mongodb.collection",
];

export function variableOf(key: string): string {
  return `MIGLET_${key.replaceAll(".", "_").toUpperCase()}`;
}
