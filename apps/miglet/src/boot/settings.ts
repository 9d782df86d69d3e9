import { readFile } from "node:fs/promises";
import { redactText } from "@mig/kit";
import { parseDocument } from "yaml";
import type { Flags } from "./command-line.ts";
import { nearestOf } from "./nearest.ts";
import {
  required,
  retiredKeys,
  type SettingKey,
  type Settings,
  type Spec,
  settingKeys,
  settingsTable,
  variableOf,
} from "./settings-table.ts";

/** The settings of this agent: flags, then metadata, then MIGLET_ variables, then the file, then defaults. */
export type Origin = "flag" | "metadata" | "environment" | "file" | "default";

/** The instance metadata of a cloud; setting keys with their text. */
export interface MetadataSource {
  readonly name: string;
  read(): Promise<ReadonlyMap<string, string>>;
}

export interface SettingProblem {
  readonly key: string;
  /** Where the bad value is: "the variable MIGLET_VM_ID", "line 3 of miglet.yaml". */
  readonly source: string;
  /** What is wrong, and what to do. */
  readonly message: string;
}

export interface ReadSettings {
  /** Absent when there are problems. */
  readonly settings?: Settings;
  readonly origins: ReadonlyMap<SettingKey, Origin>;
  /** All of them at once. */
  readonly problems: readonly SettingProblem[];
  readonly warnings: readonly string[];
}

export interface SettingSources {
  readonly flags: Flags;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly metadata?: MetadataSource;
}

/** The only place of the agent that looks at the environment of its process. */
export function processEnvironment(): Readonly<Record<string, string | undefined>> {
  return process.env;
}

interface Given {
  readonly raw: unknown;
  readonly origin: Origin;
  readonly source: string;
}

export async function readSettings({ flags, environment, metadata }: SettingSources): Promise<ReadSettings> {
  const problems: SettingProblem[] = [];
  const warnings: string[] = [];
  const given = new Map<string, Given>();
  const give = (key: string, value: Given): void => {
    if (isSetting(key)) given.set(key, value);
    else if (retiredKeys.includes(key))
      warnings.push(`${key} (${value.source}) is not used any more; remove it.`);
    else
      problems.push({
        key,
        source: value.source,
        message: unknownKey(key, value.origin === "flag" ? "--" : ""),
      });
  };
  // The weakest first: a later one takes the place of an earlier one.
  for (const [key, value] of await readFileSettings(flags.config, problems)) give(key, value);
  // The official runner's own word for it, weaker than ours.
  if ((environment["RUNNER_ALLOW_RUNASROOT"] ?? "") !== "")
    give("runner.allow_root", {
      raw: true,
      origin: "environment",
      source: "the variable RUNNER_ALLOW_RUNASROOT",
    });
  const byVariable = new Map([...settingKeys, ...retiredKeys].map((key) => [variableOf(key), key]));
  for (const [name, raw] of Object.entries(environment)) {
    if (!name.startsWith("MIGLET_") || raw === undefined || raw === "") continue;
    const key = byVariable.get(name);
    // Not an error: the environment of a process is not ours alone.
    if (key === undefined)
      warnings.push(`The variable ${name} is no setting.${didYouMean(name, [...byVariable.keys()])}`);
    else give(key, { raw, origin: "environment", source: `the variable ${name}` });
  }
  for (const [key, raw] of (await metadata?.read()) ?? [])
    give(key, { raw, origin: "metadata", source: `${metadata?.name} metadata` });
  for (const [key, raw] of flags.settings) give(key, { raw, origin: "flag", source: `the flag --${key}` });

  const origins = new Map<SettingKey, Origin>();
  const values: Partial<Record<SettingKey, unknown>> = {};
  for (const key of settingKeys) {
    const spec: Spec<unknown> = settingsTable[key];
    const one = given.get(key);
    origins.set(key, one?.origin ?? "default");
    if (one === undefined && spec.fallback === required)
      problems.push({
        key,
        source: "not set anywhere",
        message: `is required: set it in the file, or as ${variableOf(key)}`,
      });
    values[key] = one === undefined ? spec.fallback : spec.kind.read(one.raw);
    if (one !== undefined && values[key] === undefined)
      problems.push({ key, source: one.source, message: `${quote(one.raw)} is not ${spec.kind.form}` });
  }
  crossCheck(values as Partial<Settings>, problems);
  return { origins, problems, warnings, ...(problems.length === 0 ? { settings: values as Settings } : {}) };
}

/** What must hold between settings. One that is wrong by itself has been told already and is absent here. */
function crossCheck(settings: Partial<Settings>, problems: SettingProblem[]): void {
  const isBad = (key: SettingKey): boolean => problems.some((problem) => problem.key === key);
  const must = (holds: boolean, key: SettingKey, message: string): void => {
    if (!holds && !isBad(key)) problems.push({ key, source: "together with the others", message });
  };
  const notLess = (high: DurationKey, low: DurationKey): void => {
    const [a, b] = [settings[high], settings[low]];
    must(a === undefined || b === undefined || a >= b, high, `is shorter than ${low}`);
  };
  const http = settings["controller.endpoint"];
  const hasOther = settings["controller.grpc_endpoint"] !== undefined || isBad("controller.grpc_endpoint");
  must(
    http !== undefined || hasOther,
    "controller.endpoint",
    "is required, unless controller.grpc_endpoint is set",
  );
  must(
    settings["controller.channel"] !== "poll" || http !== undefined || isBad("controller.endpoint"),
    "controller.channel",
    "poll needs controller.endpoint",
  );
  must(
    settings["controller.auth.type"] !== "bearer" || settings["controller.auth.token_path"] !== undefined,
    "controller.auth.token_path",
    "is required when controller.auth.type is bearer",
  );
  notLess("controller.retry.max_backoff", "controller.retry.initial_backoff");
  notLess("heartbeat.timeout", "heartbeat.interval");
}

type DurationKey =
  | "controller.retry.max_backoff"
  | "controller.retry.initial_backoff"
  | "heartbeat.timeout"
  | "heartbeat.interval";

async function readFileSettings(
  path: string | undefined,
  problems: SettingProblem[],
): Promise<Map<string, Given>> {
  const found = new Map<string, Given>();
  if (path === undefined) return found;
  const bad = (source: string, message: string): void =>
    void problems.push({ key: "--config", source, message });
  let content: string;
  try {
    content = await readFile(path, "utf8");
  } catch (error) {
    bad(
      path,
      `cannot be read (${(error as NodeJS.ErrnoException).code ?? "error"}): check the path and its permissions`,
    );
    return found;
  }
  const document = parseDocument(content);
  for (const { linePos, code } of document.errors)
    bad(`line ${linePos?.[0].line ?? "?"} of ${path}`, `is not YAML (${code}): correct it`);
  if (document.errors.length > 0) return found;
  const flatten = (value: unknown, key: string): void => {
    if (value === null || value === undefined) return;
    if (typeof value === "object" && !Array.isArray(value) && !isSetting(key))
      for (const [name, inner] of Object.entries(value)) flatten(inner, key === "" ? name : `${key}.${name}`);
    else if (key === "") bad(path, "is not a YAML map: write settings as `key: value`");
    else found.set(key, { raw: value, origin: "file", source: path });
  };
  flatten(document.toJS({ maxAliasCount: 10 }), "");
  return found;
}

/** Not `in`: a table in a program also has a `constructor`. */
function isSetting(key: string): boolean {
  return Object.hasOwn(settingsTable, key);
}

function unknownKey(key: string, prefix: string): string {
  return `is no setting.${didYouMean(key, settingKeys, prefix)} See miglet --help`;
}

function didYouMean(name: string, known: readonly string[], prefix = ""): string {
  const nearest = nearestOf(name, known);
  return nearest === undefined ? "" : ` Did you mean ${prefix}${nearest}?`;
}

/** Long or many-lined values are cut: whoever confuses two settings must not print a secret in full. */
function quote(raw: unknown): string {
  const shown = redactText(JSON.stringify(raw) ?? String(raw));
  return shown.length > 60 ? `${shown.slice(0, 20)}… (${shown.length} characters)` : shown;
}
