import { MigError } from "@mig/lifecycle";
import { quote } from "./refuse.ts";

/**
 * The pieces that every reference has: `scheme://path?option=value#fragment`. Split by hand: `URL` would resolve `..`,
 * change the case of the first word and repair what an operator should correct.
 */
export interface Parts<S extends string = string> {
  readonly scheme: S;
  /** Still escaped. */
  readonly path: string;
  readonly fragment: string | undefined;
  /** The error for a wrong part: which one, what it is, and a right reference. */
  wrong(part: string, rule: string, found?: string): MigError;
  must(pattern: RegExp, text: string, part: string, rule: string): void;
  /** Refuses options with other names than these. */
  allow(names: readonly string[]): void;
  option(name: string, pattern: RegExp, rule: string): string | undefined;
  noFragment(): void;
  needFragment(what: string): string;
  /** The path's segments, toPlaind. None is empty, `.` or `..`. */
  segments(part: string): string[];
  /** The whole path, toPlaind. */
  whole(): string;
}

const lengthMax = 2_048;

export function splitReference<S extends string>(
  text: string,
  examples: Readonly<Record<S, string>>,
): Parts<S> {
  const known = Object.keys(examples) as S[];
  const [, word = "", rest = ""] = /^([a-z0-9-]{1,32}):\/\/(.*)$/s.exec(text) ?? [];
  const scheme = known.find((one) => one === word);
  // Not quoted: whoever pastes the secret itself where its reference belongs must not find it in a log.
  if (scheme === undefined)
    throw new MigError(
      "settings_invalid",
      `this is no reference to a secret: it must begin with ${known.map((one) => `${one}://`).join(", ")}`,
    );
  const wrong = (part: string, rule: string, found?: string): MigError =>
    new MigError(
      "settings_invalid",
      `the ${part} of this ${scheme}:// reference ${rule}${found === undefined ? "" : `; found${quote(found.slice(0, 80)).slice(1)}`}, as in "${examples[scheme]}"`,
    );
  if (text.length > lengthMax) throw wrong("text", `has at most ${lengthMax} characters`);
  if (!/^[!-~]*$/.test(rest))
    throw wrong("text", "has visible ASCII characters only; write others as %XX (percent-encoded UTF-8)");

  const hashAt = rest.indexOf("#");
  const before = hashAt < 0 ? rest : rest.slice(0, hashAt);
  const behind = hashAt < 0 ? undefined : rest.slice(hashAt + 1);
  const questionAt = before.indexOf("?");
  const path = questionAt < 0 ? before : before.slice(0, questionAt);
  if (behind?.includes("?") === true)
    throw wrong("fragment", "comes last: write ?option=value before #, and a question mark in it as %3F");

  const toPlain = (escaped: string, part: string): string => {
    let plain: string;
    try {
      plain = decodeURIComponent(escaped);
    } catch {
      throw wrong(part, "is not percent-encoded UTF-8", escaped);
    }
    if (/\p{Cc}/u.test(plain)) throw wrong(part, "has no control characters");
    return plain;
  };
  const options = readOptions(questionAt < 0 ? undefined : before.slice(questionAt + 1), toPlain, wrong);
  const fragment = behind === undefined ? undefined : toPlain(behind, "fragment");
  if (fragment === "") throw wrong("fragment", "must not be empty: name something after #, or leave it out");

  return {
    scheme,
    path,
    fragment,
    wrong,
    must(pattern, found, part, rule) {
      if (!pattern.test(found)) throw wrong(part, rule, found);
    },
    allow(names) {
      for (const name of options.keys())
        if (!names.includes(name))
          throw wrong("query", names.length === 0 ? "must not be there" : `knows ${names.join(", ")}`, name);
    },
    option(name, pattern, rule) {
      const value = options.get(name);
      if (value !== undefined && !pattern.test(value)) throw wrong(name, rule, value);
      return value;
    },
    noFragment() {
      if (fragment !== undefined) throw wrong("fragment", "must not be there", fragment);
    },
    needFragment(what) {
      if (fragment === undefined) throw wrong("fragment", `names ${what}: write #NAME at the end`);
      return fragment;
    },
    segments(part) {
      const pieces = (path.startsWith("/") ? path.slice(1) : path)
        .split("/")
        .map((one) => toPlain(one, part));
      // A slash that was escaped must not bring in what an open one may not.
      for (const piece of pieces.flatMap((one) => one.split("/")))
        if (piece === "" || piece === "." || piece === "..")
          throw wrong(part, 'must not have an empty piece, "." or ".."', path);
      return pieces;
    },
    whole: () => toPlain(path, "name"),
  };
}

function readOptions(
  text: string | undefined,
  toPlain: (escaped: string, part: string) => string,
  wrong: (part: string, rule: string, found?: string) => MigError,
): Map<string, string> {
  const options = new Map<string, string>();
  for (const pair of text === undefined ? [] : text.split("&")) {
    const equals = pair.indexOf("=");
    if (equals <= 0 || equals === pair.length - 1) throw wrong("query", "is name=value, joined by &", pair);
    const name = toPlain(pair.slice(0, equals), "query");
    if (options.has(name)) throw wrong("query", "names each option once", name);
    options.set(name, toPlain(pair.slice(equals + 1), "query"));
  }
  return options;
}
