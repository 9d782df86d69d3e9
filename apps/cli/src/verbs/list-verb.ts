import type { Unknown } from "@mig/protocol";
import { jsonText } from "../json-text.ts";
import { apiVerb, type Option } from "../options.ts";
import { limitOption, pagesOf, pathOf, readLimit, rowsOf } from "../pages.ts";
import { type Column, renderFields, renderTable } from "../table.ts";
import { exitCodes, type Io, type Verb } from "../verb.ts";

interface ListSpec {
  readonly name: string;
  readonly about: string;
  /** Below /api/v1. */
  readonly path: string;
  readonly listKey: string;
  /** Option → what the API calls it. */
  readonly filters?: Readonly<Record<string, { as: string; takes: string; help: string }>>;
  readonly words?: readonly string[];
  /** What the words mean for the query. */
  readonly wordsAs?: readonly string[];
  /** The list has no pages. */
  readonly isWhole?: boolean;
  readonly columns: readonly Column[];
  readonly none: string;
  readonly examples: readonly [string, string];
}

export function listVerb(spec: ListSpec): Verb {
  const filters = Object.entries(spec.filters ?? {});
  const options: Record<string, Option> = {
    ...Object.fromEntries(filters.map(([name, { takes, help }]) => [name, { takes, help }])),
    ...(spec.isWhole === true ? {} : limitOption),
  };
  return apiVerb({
    name: spec.name,
    about: spec.about,
    options,
    examples: spec.examples,
    ...(spec.words === undefined ? {} : { words: spec.words }),
    async run({ api, io, words, text, has }) {
      const query = Object.fromEntries([
        ...filters.map(([name, { as }]) => [as, text(name)]),
        ...(spec.wordsAs ?? []).map((as, i) => [as, words[i]]),
      ]) as Record<string, string | undefined>;
      const rows: Unknown[] = [];
      if (spec.isWhole === true) {
        rows.push(...rowsOf(await api.call("GET", pathOf(spec.path)), spec.listKey));
      } else
        for await (const page of pagesOf(api, spec.path, spec.listKey, query, readLimit(text("limit"))))
          rows.push(...page);
      if (has("json")) sayJson(io, { [spec.listKey]: rows });
      else io.out(renderTable(rows, spec.columns, io, spec.none));
      return exitCodes.done;
    },
  });
}

/** Says what was answered: as it came, or a line for each key. */
export function tell(io: Io, isJson: boolean, thing: Unknown): number {
  if (isJson) sayJson(io, thing);
  else io.out(renderFields(thing, io));
  return exitCodes.done;
}

export function sayJson(io: Io, thing: unknown): void {
  io.out(`${jsonText(thing, 2)}\n`);
}

export const plain = (title: string, key: string): Column => ({ title, of: (row) => row[key] });
