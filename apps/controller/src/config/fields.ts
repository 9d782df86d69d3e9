import { nearest } from "@mig/kit";
import { asObject, isId, type Unknown } from "@mig/protocol";
import type { Problem } from "./env.ts";
import { problemOfUrl } from "./values.ts";

/**
 * One entry of a list in the YAML file, or the body of a request that says the same: what it holds, and in `problems`
 * what is wrong with it, each with where it was written and what to write instead. Never throws.
 */
export class Fields {
  readonly source: string;
  readonly #from: Unknown;
  readonly #problems: Problem[];

  constructor(content: unknown, source: string, keys: readonly string[], problems: Problem[]) {
    this.source = source;
    this.#problems = problems;
    const from = asObject(content);
    this.#from = from ?? {};
    if (from === undefined) this.refuse(`holds the keys ${keys.join(", ")}`);
    for (const key of Object.keys(this.#from)) {
      if (keys.includes(key)) continue;
      const guess = nearest(key, keys);
      this.refuse(
        `has a key "${key.slice(0, 64)}" that is not known${guess === undefined ? "" : `; did you mean ${guess}?`}`,
      );
    }
  }

  refuse(rule: string): void {
    this.#problems.push({ message: `${this.source} ${rule}` });
  }

  has(key: string): boolean {
    return this.raw(key) !== undefined;
  }

  /** Null says nothing, like a key that is left out. */
  raw(key: string): unknown {
    return this.#from[key] ?? undefined;
  }

  text(key: string): string | undefined {
    const value = this.raw(key);
    if (value === undefined) return undefined;
    if (typeof value === "object") {
      this.refuse(`.${key} is one value, not a structure`);
      return undefined;
    }
    return String(value).trim();
  }

  id(key: string): string | undefined {
    const text = this.text(key);
    if (text !== undefined && !isId(text))
      this.refuse(`.${key} is missing or not an id: letters, digits, ".", "_" and "-"`);
    return text;
  }

  url(key: string): string | undefined {
    const text = this.text(key)?.replace(/\/+$/, "");
    if (text === undefined) return undefined;
    const problem = problemOfUrl(text);
    if (problem !== undefined) this.refuse(`.${key} ${problem}`);
    return text;
  }

  switch(key: string, otherwise: boolean): boolean {
    const value = this.raw(key);
    if (value === undefined) return otherwise;
    if (typeof value !== "boolean") this.refuse(`.${key} is true or false`);
    return value === true;
  }

  /** A whole number from 1 to `most`. */
  count(key: string, most: number): number | undefined {
    const text = this.text(key);
    if (text === undefined) return undefined;
    const count = /^[1-9]\d{0,14}$/.test(text) ? Number(text) : Number.NaN;
    if (count <= most) return count;
    this.refuse(`.${key} is a whole number from 1 to ${most}`);
    return undefined;
  }
}

/** A list of entries with an `id` each; an id that is there twice is told. */
export function readList<T extends { id: string }>(
  content: unknown,
  source: string,
  example: string,
  problems: Problem[],
  read: (item: unknown, source: string) => T,
): T[] {
  if (content === undefined || content === null) return [];
  const [, name = source] = /([a-z_.]+)$/.exec(source) ?? [];
  if (!Array.isArray(content)) {
    problems.push({ message: `${source} is a list, as in "${name}: [${example}]"` });
    return [];
  }
  const list = content.map((item, i) => read(item, `${source}[${i}]`));
  const seen = new Set<string>();
  for (const { id } of list) {
    if (seen.has(id) && id !== "")
      problems.push({ message: `${source}: the id "${id}" is there twice; give each its own` });
    seen.add(id);
  }
  return list;
}
