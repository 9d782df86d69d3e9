import { PRODUCT_VERSION } from "@mig/protocol";
import { required, type Spec, settingKeys, settingsTable, variableOf } from "./settings-table.ts";

/** `miglet [command] [flags]`. Flags in the way of Go: one dash or two, `-name value` or `-name=value`. */
export interface Flags {
  readonly config?: string;
  /** Setting keys with their text. Whether they are settings is judged with all the others. */
  readonly settings: ReadonlyMap<string, string>;
}

export type CommandLine =
  | { readonly ask: "run"; readonly flags: Flags }
  | { readonly ask: "config" | "check" | "status"; readonly flags: Flags; readonly json: boolean }
  | { readonly ask: "version" | "help" }
  | { readonly ask: "unclear"; readonly message: string };

/** The flags that existing agents have. */
const shortNames: Readonly<Record<string, string>> = {
  "log-level": "logging.level",
  "log-format": "logging.format",
};

export function parseCommandLine(argv: readonly string[]): CommandLine {
  const settings = new Map<string, string>();
  let config: string | undefined;
  let json = false;
  let command: string | undefined;
  const rest = [...argv];
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    const flag = /^--?([A-Za-z][A-Za-z0-9._-]*)(?:=([\s\S]*))?$/.exec(word);
    if (flag === null) {
      if (command !== undefined) return { ask: "unclear", message: `There is nothing to do with "${word}".` };
      command = word;
      continue;
    }
    const name = flag[1] ?? "";
    if (name === "help" || name === "h") return { ask: "help" };
    if (name === "version") return { ask: "version" };
    if (name === "json") {
      json = true;
      continue;
    }
    const value = flag[2] ?? rest.shift();
    if (value === undefined) return { ask: "unclear", message: `The flag --${name} needs a value.` };
    if (name === "config") config = value;
    else settings.set(shortNames[name] ?? name, value);
  }
  const flags: Flags = { settings, ...(config === undefined ? {} : { config }) };
  if (command === undefined || command === "run") return { ask: "run", flags };
  if (command === "config" || command === "check" || command === "status")
    return { ask: command, flags, json };
  return {
    ask: "unclear",
    message: `There is no command "${command}"; there are run, config, check and status.`,
  };
}

export function helpText(): string {
  const lines = settingKeys.map((key) => {
    const { kind, fallback, about }: Spec<unknown> = settingsTable[key];
    const shown =
      fallback === required
        ? "required"
        : fallback === undefined || fallback === null
          ? ""
          : `default ${kind.show(fallback) || "none"}`;
    return `  --${key} <${kind.form}>\n        ${about}${shown === "" ? "" : ` (${shown})`}  ${variableOf(key)}`;
  });
  return `miglet ${PRODUCT_VERSION}: the agent of a VM that runs GitHub Actions jobs.

Usage:
  miglet [flags]           run the agent
  miglet config [--json]   show the settings and where each comes from
  miglet check [--json]    show whether this machine has what is needed
  miglet status            ask the agent that runs here what it does (needs metrics.listen)

Flags (one dash or two):
  --config <file>     YAML with the settings below as nested keys
  --log-level, --log-format   short for --logging.level, --logging.format
  --version, --help

Settings, each a flag, a variable or a key in the file; a flag wins over metadata, the variable and the file:
${lines.join("\n")}
`;
}
