import { nearest } from "@mig/kit";
import { UsageError, type Verb } from "./verb.ts";

/** The verb whose words the command line begins with, and what is left of it. */
export function findVerb(
  verbs: readonly Verb[],
  args: readonly string[],
): { verb: Verb; rest: string[] } | undefined {
  for (const verb of verbs) {
    const words = verb.name.split(" ");
    if (words.every((word, i) => args[i] === word)) return { verb, rest: args.slice(words.length) };
  }
  return undefined;
}

/** The verbs that begin with this word: those of `vm`. */
export function familyOf(verbs: readonly Verb[], word: string | undefined): Verb[] {
  return verbs.filter(({ name }) => word !== undefined && name.split(" ")[0] === word);
}

/** What to say of a command line that begins with no verb: the nearest, and what else there is in its family. */
export function unknownVerb(verbs: readonly Verb[], args: readonly string[]): UsageError {
  const said = args.slice(0, 2).filter((word) => !word.startsWith("-"));
  const [first = ""] = said;
  const names = verbs.map(({ name }) => name);
  const family = familyOf(verbs, first).map(({ name }) => name);
  const guess =
    nearest(said.join(" "), family.length > 0 ? family : names) ??
    nearest(
      first,
      names.map((name) => name.split(" ")[0] ?? ""),
    );
  const others = family.filter((name) => name !== guess).map((name) => `"${name}"`);
  if (said.length === 1 && family.length > 0)
    return new UsageError(`"${first}" what? There is ${others.join(", ")}`);
  const hasGuess = guess !== undefined && guess !== first;
  const hint = hasGuess ? `; did you mean "${guess}"?` : ".";
  const rest = others.length === 0 ? "" : ` There is ${hasGuess ? "also " : ""}${others.join(", ")}`;
  return new UsageError(`there is no command "${said.join(" ")}"${hint}${rest}`);
}
