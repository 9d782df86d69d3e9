import { readFileSync, statSync } from "node:fs";
import { basename } from "node:path";
import { nearest } from "@mig/kit";
import { asObject, type Unknown } from "@mig/protocol";
import { parseDocument } from "yaml";
import type { Problem, Written } from "./env.ts";
import { isSettingName, type SettingName, settingNames } from "./settings.ts";

const fileBytesMax = 1024 * 1024;
/** `secrets.vault.address` is in the group `secrets.vault`, and that in `secrets`. */
const groups = new Set(
  settingNames.flatMap((name) => {
    const parts = name.split(".").slice(0, -1);
    return parts.map((_, i) => parts.slice(0, i + 1).join("."));
  }),
);
/** What is no setting but a list of entries or an entry; config.ts reads them. */
const lists = ["github.apps", "oidc.roles", "orgs", "pools", "default_pool"] as const;

export interface ConfigFile {
  values: Map<SettingName, Written>;
  apps: unknown;
  oidcRoles: unknown;
  orgs: unknown;
  pools: unknown;
  defaultPool: unknown;
  fileName: string;
}

export const nothingListed = {
  apps: undefined,
  oidcRoles: undefined,
  orgs: undefined,
  pools: undefined,
  defaultPool: undefined,
};

/** The settings that a YAML file holds. Whatever is wrong with it goes to `problems`; what can be read is read. */
export function readConfigFile(file: Written, problems: Problem[]): ConfigFile {
  const fileName = basename(file.text);
  const read: ConfigFile = { values: new Map(), ...nothingListed, fileName };
  const root = parse(file, problems);
  if (root === undefined) return read;
  const take = (from: Unknown, prefix: string): void => {
    for (const [key, value] of Object.entries(from)) {
      const name = prefix + key;
      const source = `${fileName}: ${name}`;
      if (name === "github.apps") read.apps = value;
      else if (name === "oidc.roles") read.oidcRoles = value;
      else if (name === "orgs") read.orgs = value;
      else if (name === "pools") read.pools = value;
      else if (name === "default_pool") read.defaultPool = value;
      else if (groups.has(name)) {
        const group = asObject(value);
        if (group !== undefined) take(group, `${name}.`);
        else if (value !== null)
          problems.push({ message: `${source} holds further keys, as in "${key}: { … }"` });
      } else if (!isSettingName(name)) {
        const guess = nearest(name, [...settingNames, ...lists]);
        problems.push({
          message: `${source} is not a setting${guess === undefined ? "" : `; did you mean ${guess}?`}`,
        });
      } else if (value !== null) {
        const text = toText(value);
        if (text === undefined) problems.push({ message: `${source} is one value, not a structure` });
        else read.values.set(name, { text, source });
      }
    }
  };
  take(root, "");
  return read;
}

function parse(file: Written, problems: Problem[]): Unknown | undefined {
  const refuse = (what: string): undefined => {
    problems.push({ message: `${file.source} ${file.text}: ${what}` });
  };
  try {
    const about = statSync(file.text);
    if (!about.isFile()) return refuse("is not a file; give the path of a YAML file");
    if (about.size > fileBytesMax)
      return refuse(`is larger than ${fileBytesMax} bytes; is it the right file?`);
    const document = parseDocument(readFileSync(file.text, "utf8"), { prettyErrors: true });
    const mistake = document.errors[0] ?? document.warnings[0];
    if (mistake !== undefined) return refuse(`is not valid YAML: ${mistake.message.split("\n")[0]}`);
    const content: unknown = document.toJS({ maxAliasCount: 100 });
    if (content === null) return {};
    return (
      asObject(content) ?? refuse('holds no keys; write one setting a line, as in "listen: 127.0.0.1:8080"')
    );
  } catch (error) {
    return refuse(`cannot be read: ${(error as Error).message}`);
  }
}

function toText(value: unknown): string | undefined {
  if (Array.isArray(value))
    return value.every((item) => typeof item === "string") ? value.join(",") : undefined;
  return typeof value === "object" ? undefined : String(value);
}
