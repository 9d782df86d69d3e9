import { asObject, readText, type Unknown } from "@mig/protocol";
import type { Api } from "./api.ts";
import type { Option } from "./options.ts";
import { UsageError } from "./verb.ts";

const pageMax = 1_000;

export const limitOption: Record<string, Option> = {
  limit: { takes: "N", help: "at most so many (default 100)" },
};

export function readLimit(text: string | undefined): number {
  if (text === undefined) return 100;
  if (!/^[1-9]\d{0,6}$/.test(text)) throw new UsageError("--limit takes a whole number from 1");
  return Number(text);
}

/** Path and query of a list; what is undefined is left out. */
export function pathOf(path: string, query: Record<string, string | undefined> = {}): string {
  const told = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== undefined) told.set(name, value);
  return `/api/v1/${path}${told.size === 0 ? "" : `?${told}`}`;
}

/** One page after the other. */
export async function* pagesOf(
  api: Api,
  path: string,
  listKey: string,
  query: Record<string, string | undefined>,
  limit: number,
): AsyncGenerator<Unknown[]> {
  let cursor: string | undefined;
  let left = limit;
  do {
    const asked = { ...query, limit: String(Math.min(left, pageMax)), cursor };
    const page = await api.call("GET", pathOf(path, asked));
    const rows = rowsOf(page, listKey);
    yield rows;
    left -= rows.length;
    cursor = readText(page, "next_cursor");
  } while (cursor !== undefined && left > 0);
}

export function rowsOf(page: Unknown, listKey: string): Unknown[] {
  const rows = page[listKey];
  return Array.isArray(rows) ? rows.map(asObject).filter((row) => row !== undefined) : [];
}

/** For a path: an id may hold nothing that means something there. */
export const inPath = (word: string | undefined): string => encodeURIComponent(word ?? "");
