/**
 * The arguments of the Listener with the quirks of the real parser (runner-contract §2.2, §2.3):
 * a flag that is followed by a value silently counts as absent, a value that begins with one dash is dropped,
 * the first of a doubled option wins, and the environment fills in what the command line lacks.
 */
const configureOptions = [
  ...["auth", "labels", "monitorsocketaddress", "name", "pat", "runnergroup", "token", "url", "username"],
  ...["work", "unattended", "replace", "ephemeral", "disableupdate", "no-default-labels"],
  ...["generateserviceconfig", "runasservice", "check", "help", "version", "commit"],
];
const validOptions: Readonly<Record<string, readonly string[]>> = {
  configure: configureOptions,
  remove: ["token", "pat", "local", "help", "version", "commit", "check"],
  run: ["jitconfig", "once", "startuptype", "help", "version", "commit", "check"],
  warmup: ["help", "version", "commit"],
};
const inputPrefix = "ACTIONS_RUNNER_INPUT_";

export interface CommandLine {
  readonly command: string;
  /** Names of options that the command does not know. */
  readonly unknown: readonly string[];
  flag(name: string): boolean;
  argument(name: string): string | undefined;
}

/** Parses the arguments and takes every `ACTIONS_RUNNER_INPUT_*` out of `environment`. */
export function parseCommandLine(argv: readonly string[], environment: NodeJS.ProcessEnv): CommandLine {
  const words: string[] = [];
  const flags = new Set<string>();
  const values = new Map<string, string>();
  let open: string | null = null;
  const close = () => {
    if (open !== null && !values.has(open)) flags.add(open);
    open = null;
  };
  let optionSeen = false;
  for (const word of argv) {
    if (word.startsWith("--")) {
      close();
      optionSeen = true;
      open = word.slice(2).toLowerCase();
    } else if (word.startsWith("-")) {
      close();
    } else if (!optionSeen) {
      words.push(word.toLowerCase());
    } else if (open !== null) {
      if (!values.has(open) && !flags.has(open)) values.set(open, word);
      open = null;
    }
  }
  close();
  const inputs = takeInputs(environment);
  const command = words[0] ?? "run";
  const known = validOptions[command] ?? [];
  return {
    command,
    unknown: [...flags, ...values.keys()].filter((name) => !known.includes(name)),
    // Of the texts that people try, only "true" counts: "1" and "yes" are false.
    flag: (name) => flags.has(name) || inputs.get(name)?.toLowerCase() === "true",
    argument: (name) => values.get(name) ?? inputs.get(name),
  };
}

function takeInputs(environment: NodeJS.ProcessEnv): ReadonlyMap<string, string> {
  const inputs = new Map<string, string>();
  for (const [name, value] of Object.entries(environment)) {
    if (!name.toUpperCase().startsWith(inputPrefix)) continue;
    const trimmed = value?.trim();
    if (trimmed) inputs.set(name.slice(inputPrefix.length).toLowerCase(), trimmed);
    delete environment[name];
  }
  return inputs;
}
