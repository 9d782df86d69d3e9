import { REDACTED } from "@mig/kit";
import { appKeys } from "./apps.ts";
import type { Problem } from "./env.ts";
import { oidcRoleKeys } from "./oidc.ts";
import { orgKeys } from "./orgs.ts";
import { poolKeys } from "./pools.ts";
import { describe, flagOf, settingNames, variableOf } from "./settings.ts";
import type { Effective } from "./values.ts";

/** `mig-controller --help`. */
export function showHelp(): string {
  const lines = settingNames.map((name) => {
    const { kind, fallback, choices, help, alsoEnv } = describe(name);
    const value = kind === "switch" ? "" : ` ${choices?.join("|") ?? placeholders[kind]}`;
    const variable = alsoEnv === undefined ? variableOf(name) : `${variableOf(name)} or ${alsoEnv}`;
    const otherwise = fallback === undefined || kind === "switch" ? "" : ` (default ${fallback})`;
    return `  ${flagOf(name)}${value}\n      ${help}${otherwise} [${variable}]`;
  });
  return `The MIG Controller: turns fleets of VMs into GitHub Actions runners.

  mig-controller [settings]            serve until SIGTERM
  mig-controller config [--json]       print the settings in effect and where each comes from
  mig-controller --help | --version

A flag wins over its variable, that over the YAML file, that over the default.

  --config FILE
      YAML file; github.api_url is written "github: { api_url: … }". It also holds lists [MIG_CONFIG]:
      github: { apps: [] }    ${appKeys.join(", ")}
      oidc: { roles: [] }     ${oidcRoleKeys.join(", ")}
      orgs: []                ${orgKeys.join(", ")}
      pools: [], default_pool: {}
          ${poolKeys.join(", ")}
${lines.join("\n")}

Exit codes: 0 stopped in order, 1 failed, 2 a setting is wrong.
`;
}

const placeholders = {
  text: "TEXT",
  switch: "",
  duration: "DURATION",
  address: "HOST:PORT",
  path: "PATH",
  url: "URL",
  list: "A,B",
  choice: "",
  count: "N",
} as const;

/** `mig-controller config`: no secret is in it. */
export function showSettings(effective: readonly Effective[], pools: unknown, json: boolean): string {
  const shown = effective
    .filter(({ name }, i) => effective.findIndex((other) => other.name === name) === i)
    .map(({ name, text, source }) => ({
      name,
      value: describe(name).isSecret === true ? REDACTED : text,
      source,
    }))
    .sort((a, b) => settingNames.indexOf(a.name) - settingNames.indexOf(b.name));
  if (json) return `${JSON.stringify({ settings: shown, pools }, null, 2)}\n`;
  const width = Math.max(...shown.map(({ name }) => name.length));
  const lines = shown.map(({ name, value, source }) => `${name.padEnd(width)}  ${value}  (${source})\n`);
  return `${lines.join("")}pools  ${JSON.stringify(pools)}\n`;
}

export function showProblems(problems: readonly Problem[]): string {
  const many = problems.length === 1 ? "a setting is" : `${problems.length} settings are`;
  return `mig-controller does not start: ${many} wrong.\n${problems.map(({ message }) => `  - ${message}\n`).join("")}`;
}
