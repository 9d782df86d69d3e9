import { nearest } from "@mig/kit";
import { nothingListed, readConfigFile } from "./config-file.ts";
import { describe, flagOf, type SettingName, settingNames, variableOf } from "./settings.ts";

/**
 * The only reader of the command line and of the environment. It says what was written where; what it means is
 * decided in `config.ts`. Flags win over `MIG_*` variables, these over the YAML file, that over the defaults.
 */
export interface Written {
  text: string;
  /** `--listen`, `MIG_LISTEN` or `mig.yaml: listen`. */
  source: string;
}

export interface Problem {
  /** What is wrong, where it was written, and what to do. */
  message: string;
}

export type Action = "run" | "config" | "help" | "version";

export interface Invocation {
  action: Action;
  json: boolean;
  values: Map<SettingName, Written>;
  /** The YAML file's `github.apps`, `oidc.roles`, `orgs`, `pools` and `default_pool`, unread. */
  apps: unknown;
  oidcRoles: unknown;
  orgs: unknown;
  pools: unknown;
  defaultPool: unknown;
  /** How messages name the YAML file. */
  fileName: string;
  problems: Problem[];
  /** `MIG_*` variables that name no setting: said at the start, and ignored. */
  unknownVariables: string[];
  /** For env:// references: only the variables that one names are taken from it. */
  environment: Readonly<Record<string, string | undefined>>;
}

const plainFlags = ["--config", "--help", "--version", "--json"] as const;

export function readInvocation(
  argv: readonly string[] = process.argv.slice(2),
  env: NodeJS.ProcessEnv = process.env,
): Invocation {
  const problems: Problem[] = [];
  const line = readFlags(argv, problems);
  const configFile = line.configFile ?? { text: env["MIG_CONFIG"] ?? "", source: "MIG_CONFIG" };
  const file =
    configFile.text === ""
      ? { values: new Map<SettingName, Written>(), ...nothingListed, fileName: "" }
      : readConfigFile(configFile, problems);
  return {
    action: line.action,
    json: line.json,
    values: new Map([...file.values, ...readVariables(env), ...line.values]),
    apps: file.apps,
    oidcRoles: file.oidcRoles,
    orgs: file.orgs,
    pools: file.pools,
    defaultPool: file.defaultPool,
    fileName: file.fileName,
    problems,
    unknownVariables: findUnknownVariables(env),
    environment: env,
  };
}

/** An empty variable is an unset one: that is how deployment files blank a setting. */
function readVariables(env: NodeJS.ProcessEnv): Map<SettingName, Written> {
  const values = new Map<SettingName, Written>();
  for (const name of settingNames) {
    for (const variable of [variableOf(name), describe(name).alsoEnv]) {
      const text = variable === undefined ? undefined : env[variable];
      if (variable !== undefined && text !== undefined && text !== "" && !values.has(name)) {
        values.set(name, { text, source: variable });
      }
    }
  }
  return values;
}

/** Not a problem: a variable of another program, or of a newer controller, must not keep this one from starting. */
function findUnknownVariables(env: NodeJS.ProcessEnv): string[] {
  const known = new Set(["MIG_CONFIG", ...settingNames.map(variableOf)]);
  return Object.keys(env).filter((name) => /^MIG_(?!TEST_|SIM_)/.test(name) && !known.has(name));
}

interface Line {
  action: Action;
  json: boolean;
  configFile?: Written;
  values: Map<SettingName, Written>;
}

function readFlags(argv: readonly string[], problems: Problem[]): Line {
  const line: Line = { action: "run", json: false, values: new Map() };
  const rest = [...argv];
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    const equals = word.indexOf("=");
    const flag = word.startsWith("--") && equals > 0 ? word.slice(0, equals) : word;
    const attached = flag === word ? undefined : word.slice(equals + 1);
    const name = settingNames.find((candidate) => flagOf(candidate) === flag);
    if (flag === "--help" || flag === "-h") line.action = "help";
    else if (flag === "--version" || flag === "-v") line.action = "version";
    else if (flag === "--json") line.json = true;
    else if (flag === "config" && line.action === "run") line.action = "config";
    else if (name !== undefined && describe(name).kind === "switch") {
      line.values.set(name, { text: attached ?? "true", source: flag });
    } else if (name !== undefined || flag === "--config") {
      const text = attached ?? (rest[0]?.startsWith("--") === true ? undefined : rest.shift());
      if (text === undefined || text === "") {
        problems.push({ message: `${flag} needs a value, as in "${flag} ${exampleOf(name)}"` });
      } else if (name === undefined) line.configFile = { text, source: flag };
      else line.values.set(name, { text, source: flag });
    } else {
      problems.push({ message: unknownWord(flag) });
      // The word behind it was its value, and not a second mistake.
      if (flag.startsWith("--") && attached === undefined && rest[0]?.startsWith("-") === false) rest.shift();
    }
  }
  return line;
}

function exampleOf(name: SettingName | undefined): string {
  return name === undefined ? "mig.yaml" : (describe(name).fallback ?? "VALUE");
}

function unknownWord(word: string): string {
  if (!word.startsWith("-")) {
    return `"${word}" is not a command of mig-controller; the only one is "config". See "mig-controller --help"`;
  }
  const guess = nearest(word, [...plainFlags, ...settingNames.map(flagOf)]);
  return `${word} is not a flag of mig-controller${guess === undefined ? "" : `; did you mean ${guess}?`} See "mig-controller --help"`;
}
