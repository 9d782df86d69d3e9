import { nearest, redactText } from "@mig/kit";
import { joinMethodOf } from "./identity/join-method.ts";
import { secret } from "./setting-kinds.ts";
import {
  required,
  type SettingKey,
  type Settings,
  type Spec,
  settingsTable,
  variableOf,
} from "./settings-table.ts";

export interface SettingProblem {
  readonly key: string;
  /** Where the bad value is: "the variable MIGLET_VM_ID", "line 3 of miglet.yaml". */
  readonly source: string;
  /** What is wrong, and what to do. */
  readonly message: string;
}

const [nowhere, together] = ["not set anywhere", "together with the others"] as const;
/** Of problems that another source may still mend. */
export const missingPlaces: readonly string[] = [nowhere, together];

export interface Judged {
  readonly value: unknown;
  readonly problem?: SettingProblem;
}

/** One setting by itself. */
export function judge(
  key: SettingKey,
  given: { readonly raw: unknown; readonly source: string } | undefined,
): Judged {
  const { kind, fallback }: Spec<unknown> = settingsTable[key];
  if (given === undefined) {
    if (fallback !== required) return { value: fallback };
    return { value: undefined, problem: missing(key) };
  }
  let value: unknown;
  try {
    value = kind.read(given.raw);
  } catch {
    // YAML can make things that are no text and cannot become one.
  }
  if (value !== undefined) return { value };
  const shown = isSecret(key) ? "what is there" : quote(given.raw);
  const message = `${shown} is not ${kind.form}`;
  return { value, problem: { key, source: given.source, message } };
}

function missing(key: SettingKey): SettingProblem {
  return { key, source: nowhere, message: `is required: set it in the file, or as ${variableOf(key)}` };
}

/** What must hold between settings. One that is wrong by itself has been told already and is absent here. */
export function crossCheck(settings: Partial<Settings>, problems: SettingProblem[]): void {
  const isBad = (key: SettingKey): boolean => problems.some((problem) => problem.key === key);
  const must = (holds: boolean, key: SettingKey, message: string): void => {
    if (!holds && !isBad(key)) problems.push({ key, source: together, message });
  };
  const notLess = (high: DurationKey, low: DurationKey): void => {
    const [a, b] = [settings[high], settings[low]];
    must(a === undefined || b === undefined || a >= b, high, `is shorter than ${low}`);
  };
  const isGiven = (key: SettingKey): boolean => settings[key] !== undefined || isBad(key);
  const bothOrNone = (one: SettingKey, other: SettingKey): void => {
    must(isGiven(one) || settings[other] === undefined, one, `is required together with ${other}`);
    must(isGiven(other) || settings[one] === undefined, other, `is required together with ${one}`);
  };
  const joins = joinMethodOf(settings) !== "none" || isBad("join.method") || isBad("join.token");
  if (!joins && !isGiven("pool_id")) problems.unshift(missing("pool_id"));
  must(
    settings["join.method"] !== "mtls" || isGiven("controller.tls.cert_path"),
    "controller.tls.cert_path",
    "is required together with join.method mtls, and https:// in controller.endpoint",
  );
  must(
    ["none", undefined].includes(settings["join.method"]) || settings["controller.auth.type"] !== "none",
    "join.method",
    `${settings["join.method"]} gives the VM a token that controller.auth.type none would not send: leave one of them out`,
  );
  must(
    !joins || isGiven("controller.endpoint"),
    "controller.endpoint",
    "is required to join (join.method, join.token): a VM joins by HTTP",
  );
  must(
    isGiven("controller.endpoint") || isGiven("controller.grpc_endpoint"),
    "controller.endpoint",
    "is required, unless controller.grpc_endpoint is set",
  );
  must(
    !["websocket", "sse", "poll"].includes(settings["controller.channel"] ?? "") ||
      isGiven("controller.endpoint"),
    "controller.channel",
    `${settings["controller.channel"]} needs controller.endpoint`,
  );
  must(
    settings["controller.channel"] !== "nats" ||
      isGiven("controller.endpoint") ||
      isGiven("nats.credentials_file"),
    "controller.channel",
    "nats needs controller.endpoint, or nats.url and nats.credentials_file",
  );
  must(
    !isGiven("nats.credentials_file") || isGiven("nats.url"),
    "nats.credentials_file",
    "needs nats.url beside it",
  );
  must(
    settings["controller.auth.type"] !== "bearer" ||
      isGiven("controller.auth.token_path") ||
      isGiven("controller.auth.token") ||
      joins,
    "controller.auth.token_path",
    "or controller.auth.token is required when controller.auth.type is bearer, unless the VM joins",
  );
  must(
    settings["metadata.endpoint"]?.startsWith("https:") !== true,
    "metadata.endpoint",
    "metadata services speak http: write http://host:port",
  );
  must(
    settings["github.token_source"] !== "metadata" || settings["metadata.source"] !== "none",
    "github.token_source",
    "metadata cannot be read while metadata.source is none: set that to auto, gcp or aws",
  );
  bothOrNone("controller.tls.cert_path", "controller.tls.key_path");
  notLess("controller.retry.max_backoff", "controller.retry.initial_backoff");
  notLess("heartbeat.timeout", "heartbeat.interval");
}

type DurationKey =
  | "controller.retry.max_backoff"
  | "controller.retry.initial_backoff"
  | "heartbeat.timeout"
  | "heartbeat.interval";

/** Not `in`: a table in a program also has a `constructor`. */
export function isSetting(key: string): key is SettingKey {
  return Object.hasOwn(settingsTable, key);
}

export function isSecret(key: SettingKey): boolean {
  const { kind }: Spec<unknown> = settingsTable[key];
  return kind === secret;
}

export function didYouMean(name: string, known: readonly string[], prefix = ""): string {
  // What is longer than any name by far is not a slip of a finger, and would take long to compare.
  const meant = name.length > 80 ? undefined : nearest(name, known);
  return meant === undefined ? "" : ` Did you mean ${prefix}${meant}?`;
}

/** Long or many-lined values are cut: whoever confuses two settings must not print a secret in full. */
function quote(raw: unknown): string {
  let text: string;
  try {
    text = JSON.stringify(raw) ?? String(raw);
  } catch {
    return "a value that cannot be shown";
  }
  const shown = redactText(text);
  return shown.length > 60 ? `${shown.slice(0, 20)}… (${shown.length} characters)` : shown;
}
