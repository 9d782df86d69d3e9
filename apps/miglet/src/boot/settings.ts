import { hideValue } from "@mig/kit";
import { maybe } from "@mig/protocol";
import type { CloudFacts } from "./cloud-facts.ts";
import type { Flags } from "./command-line.ts";
import {
  crossCheck,
  didYouMean,
  isSecret,
  isSetting,
  type Judged,
  judge,
  missingPlaces,
  type SettingProblem,
} from "./judge-settings.ts";
import type { Metadata, MetadataAccess } from "./read-metadata.ts";
import { readSettingsFile } from "./settings-file.ts";
import { retiredKeys, type SettingKey, type Settings, settingKeys, variableOf } from "./settings-table.ts";
import { warnOfOpenFiles } from "./warn-of-open-files.ts";

export type { SettingProblem } from "./judge-settings.ts";

/** The settings of this agent: flags, then metadata, then MIGLET_ variables, then the file, then defaults. */
export type Origin = "flag" | "metadata" | "environment" | "file" | "default";

export interface ReadSettings {
  /** Absent when there are problems. */
  readonly settings?: Settings;
  /** What could be read, defaults included; a wrong or missing one is absent. */
  readonly values: Partial<Settings>;
  readonly origins: ReadonlyMap<SettingKey, Origin>;
  /** Where a value is that is no default: "the instance attribute miglet-pool-id". */
  readonly places: ReadonlyMap<SettingKey, string>;
  /** All of them at once. */
  readonly problems: readonly SettingProblem[];
  readonly warnings: readonly string[];
  /** Of the cloud that this machine is in. */
  readonly facts?: CloudFacts;
  /** Something is missing and nothing is wrong, and metadata that should answer did not: read again. */
  readonly isTransient: boolean;
}

export interface SettingSources {
  readonly flags: Flags;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Without it no metadata is asked; boot/read-metadata.ts. */
  readonly metadata?: (access: MetadataAccess) => Promise<Metadata>;
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

const noMetadata: Metadata = { given: [], problems: [] };

export async function readSettings({ flags, environment, metadata }: SettingSources): Promise<ReadSettings> {
  const problems: SettingProblem[] = [];
  const warnings: string[] = [];
  const given = new Map<string, Given>();
  const give = (key: string, value: Given): void => {
    const refusal = refusalOf(key, value.origin);
    if (refusal !== undefined) problems.push({ key, source: value.source, message: refusal });
    else if (isSetting(key)) given.set(key, value);
    else warnings.push(`${key} (${value.source}) is not used any more; remove it.`);
  };

  // The weakest first: a later one takes the place of an earlier one.
  const file = await readSettingsFile(flags.config);
  problems.push(...file.problems);
  for (const [key, raw] of file.found) give(key, { raw, origin: "file", source: file.path });
  giveEnvironment(environment, give, warnings);
  const said = (await metadata?.(accessOf(given, flags))) ?? noMetadata;
  problems.push(...said.problems);
  for (const { key, raw, source } of said.given) give(key, { raw, origin: "metadata", source });
  for (const [key, raw] of flags.settings) give(key, { raw, origin: "flag", source: `the flag --${key}` });
  if (said.vmId !== undefined && !given.has("vm_id"))
    give("vm_id", { raw: said.vmId, origin: "metadata", source: "the instance itself" });

  const origins = new Map<SettingKey, Origin>();
  const places = new Map<SettingKey, string>();
  const values: Record<string, unknown> = {};
  for (const key of settingKeys) {
    const one = given.get(key);
    origins.set(key, one?.origin ?? "default");
    if (one !== undefined) places.set(key, one.source);
    const { value, problem }: Judged = judge(key, one);
    values[key] = value;
    if (problem !== undefined) problems.push(problem);
    // Whatever prints it from now on prints [secret].
    if (one !== undefined && isSecret(key) && typeof value === "string") hideValue(value);
  }
  crossCheck(values, problems);
  warnings.push(...(await warnOfOpenFiles(values)));
  // A value that is wrong stays wrong; only what nobody said may be what metadata would have said.
  const isOnlyMissing = problems.every(({ source }) => missingPlaces.includes(source));
  const mayBeCause = problems.length > 0 && isOnlyMissing;
  if (said.silence !== undefined) {
    const { cloud, why } = said.silence;
    const message = `the metadata service of ${cloud} does not answer (${why}): settings there are not known. Set metadata.source to none if they are not wanted`;
    // Told among the problems only when it may be their cause, or when somebody relies on it.
    if (mayBeCause || origins.get("metadata.source") !== "default")
      problems.push({ key: "metadata.source", source: "the instance metadata", message });
    else warnings.push(`${message}.`);
  }
  return {
    values,
    origins,
    places,
    problems,
    warnings,
    isTransient: said.silence !== undefined && problems.length > 0 && isOnlyMissing,
    ...maybe("facts", said.facts),
    ...(problems.length === 0 ? { settings: values as Settings } : {}),
  };
}

/** Why this source may not give this key. */
function refusalOf(key: string, origin: Origin): string | undefined {
  if (!isSetting(key) && !retiredKeys.includes(key)) {
    const nearest = didYouMean(key, settingKeys, origin === "flag" ? "--" : "");
    return `is no setting.${nearest} See miglet --help`;
  }
  if (origin === "flag" && isSetting(key) && isSecret(key))
    return `is a secret, and everybody on this machine can read a command line: put it into a file (${key}_path), into ${variableOf(key)} or into metadata, and take the one that was shown out of use`;
  if (origin === "metadata" && accessKeys.includes(key))
    return `says how metadata is read, so metadata cannot set it: use a flag, ${variableOf(key)} or the file`;
  return undefined;
}

const accessKeys: readonly string[] = ["metadata.source", "metadata.endpoint", "metadata.timeout"];

function giveEnvironment(
  environment: SettingSources["environment"],
  give: (key: string, value: Given) => void,
  warnings: string[],
): void {
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
}

/** Before metadata is read. When one of them is wrong, nobody is asked: the problem is told with the others. */
function accessOf(given: ReadonlyMap<string, Given>, { settings: flags }: Flags): MetadataAccess {
  const read = <K extends SettingKey>(key: K): Settings[K] | undefined => {
    const flag = flags.get(key);
    const one = flag === undefined ? given.get(key) : { raw: flag, source: "" };
    return judge(key, one).value as Settings[K] | undefined;
  };
  const [source, endpoint, timeoutMs] = [
    read("metadata.source"),
    read("metadata.endpoint"),
    read("metadata.timeout"),
  ];
  return source === undefined || endpoint === undefined || timeoutMs === undefined
    ? { source: "none", endpoint: "", timeoutMs: 0 }
    : { source, endpoint, timeoutMs };
}
