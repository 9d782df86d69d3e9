import { parse } from "../options.ts";
import { exitCodes, UsageError, type Verb } from "../verb.ts";
import { sayJson } from "./list-verb.ts";

const shells = ["bash", "zsh", "fish"] as const;
const options = { json: { type: "boolean" } } as const;
const scripts = { bash, zsh, fish };

/** Made from the verbs themselves, so that none can be forgotten. */
export function completionVerb(verbs: () => readonly Verb[]): Verb {
  return {
    name: "completion",
    help: `${shells.join("|")} [options]
      A script that lets the shell complete migctl's verbs and options.
        --json  the shell and its script, for programs
      Exit codes: 0 done, 2 the command line is wrong.`,
    examples: ["source <(migctl completion bash)", "migctl completion fish | source"],
    options,
    check: (args) => void read(args),
    async run(args, io) {
      const { shell, isJson } = read(args);
      const script = scripts[shell](verbs());
      if (isJson) sayJson(io, { shell, script });
      // Copied from a terminal or read by a shell, it is what it is.
      else process.stdout.write(script);
      return exitCodes.done;
    },
  };
}

function read(args: string[]): { shell: (typeof shells)[number]; isJson: boolean } {
  const { values, positionals } = parse(args, options, true);
  const shell = shells.find((one) => one === positionals[0]);
  if (shell === undefined || positionals.length !== 1)
    throw new UsageError(`completion takes ${shells.join(", ")}`);
  return { shell, isJson: values["json"] === true };
}

/** What may follow: after nothing, after a first word, after a whole verb. */
function nextWords(verbs: readonly Verb[]): Map<string, string[]> {
  const next = new Map<string, Set<string>>();
  const add = (after: string, word: string): void => {
    next.set(after, (next.get(after) ?? new Set()).add(word));
  };
  for (const { name, options } of verbs) {
    const words = name.split(" ");
    for (const [i, word] of words.entries()) add(words.slice(0, i).join(" "), word);
    for (const option of optionsOf(options)) add(name, option);
    if (name === "completion") for (const shell of shells) add(name, shell);
  }
  return new Map([...next].map(([after, words]) => [after, [...words].sort()]));
}

const optionsOf = (options: Verb["options"]): string[] =>
  [...Object.keys(options), "help"].map((name) => `--${name}`).sort();

function bash(verbs: readonly Verb[]): string {
  // A word may follow these at once, as a URL follows login.
  const single = verbs.filter(({ name }) => !name.includes(" "));
  const cases = [...nextWords(verbs)].map(
    ([after, words]) => `    "${after}") words="${words.join(" ")}" ;;\n`,
  );
  return `_migctl() {
  local words="" typed="" word
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$word" in -*) break ;; esac
    case "$typed" in *" "*) break ;; esac
    typed="\${typed:+$typed }$word"
  done
  case "$typed" in
${cases.join("")}    *) 
      case "\${typed%% *}" in
${single
  .map(({ name, options }) => `        ${name}) words="${optionsOf(options).join(" ")}" ;;\n`)
  .join("")}      esac ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -F _migctl migctl
`;
}

function zsh(verbs: readonly Verb[]): string {
  return `#compdef migctl\nautoload -U +X bashcompinit && bashcompinit\n${bash(verbs)}`;
}

function fish(verbs: readonly Verb[]): string {
  const lines = ["complete -c migctl -f"];
  for (const [after, words] of nextWords(verbs)) {
    const typed = after === "" ? "__fish_use_subcommand" : conditionOf(after);
    const subs = words.filter((word) => !word.startsWith("--"));
    if (subs.length > 0)
      lines.push(
        `complete -c migctl -n '${after.includes(" ") || after === "" ? typed : `${typed}; and not __fish_seen_subcommand_from ${subs.join(" ")}`}' -a '${subs.join(" ")}'`,
      );
    for (const word of words.filter((one) => one.startsWith("--")))
      lines.push(`complete -c migctl -n '${typed}' -l ${word.slice(2)}`);
  }
  return `${lines.join("\n")}\n`;
}

function conditionOf(after: string): string {
  return after
    .split(" ")
    .map((word) => `__fish_seen_subcommand_from ${word}`)
    .join("; and ");
}
