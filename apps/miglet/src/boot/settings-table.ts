import {
  address,
  boolean,
  choice,
  duration,
  id,
  type Kind,
  list,
  path,
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
  pool_id: must(id, "The pool that this VM belongs to."),
  vm_id: must(id, "The name of this VM, unique at the controller."),
  org_id: may(id, "The organization of the pool."),
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
    choice("auto", "grpc", "poll"),
    "auto",
    "How commands come: auto tries gRPC, then HTTP polling.",
  ),
  "controller.auth.type": may(
    choice("none", "bearer"),
    "bearer sends the token of controller.auth.token_path.",
  ),
  "controller.auth.token_path": may(path, "File with the bearer token; read again when it changes."),
  "controller.ca_path": may(path, "PEM file of a private certificate authority."),
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

  "github.org": may(text, "For people; the controller's grant decides."),
  "github.runner_group": may(text, "When the grant names no group."),
  "github.labels": usually(list, [], "When the grant names no labels."),
  "github.token_source": usually(
    choice("controller"),
    "controller",
    "Where registration material comes from.",
  ),
  "github.metadata_path": may(text, "Not used. Kept for existing files."),
  "github.registration_timeout": usually(
    duration(second, hour),
    5 * minute,
    "For config.sh; its own three tries take up to five minutes.",
  ),

  "runner.dir": usually(path, "/opt/actions-runner", "Where actions/runner is installed, not configured."),
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
    "Not used: figures are taken when a heartbeat is made. Kept for existing files.",
  ),
  "metrics.include_disk": usually(
    boolean,
    true,
    "Not used: disk figures cost nothing. Kept for existing files.",
  ),
  "metrics.include_network": usually(boolean, true, "Not used. Kept for existing files."),

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
