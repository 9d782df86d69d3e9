import { stripVTControlCharacters } from "node:util";
import type { Unknown } from "@mig/protocol";
import { displayWidth, padTo } from "./display-width.ts";
import { linesOfValue } from "./fit-text.ts";
import type { Io } from "./verb.ts";

export interface Column {
  readonly title: string;
  readonly of: (row: Unknown) => unknown;
}

const gap = 2;

/** A table; where it is too wide for the terminal, a block of lines for each row, so that nothing is cut off. */
export function renderTable(
  rows: readonly Unknown[],
  columns: readonly Column[],
  io: Io,
  none: string,
): string {
  if (rows.length === 0) return `${none}\n`;
  const cells = rows.map((row) => columns.map(({ of }) => printable(of(row))));
  const widths = columns.map(({ title }, i) =>
    Math.max(title.length, ...cells.map((row) => displayWidth(row[i] ?? ""))),
  );
  const total = widths.reduce((sum, width) => sum + width + gap, -gap);
  if (total > io.width) return cells.map((row) => block(row, columns, io)).join("\n");
  const line = (texts: readonly string[]): string =>
    texts
      .map((text, i) => padTo(text, (widths[i] ?? 0) + gap))
      .join("")
      .trimEnd();
  const head = line(columns.map(({ title }) => title));
  return `${bold(head, io)}\n${cells.map((row) => `${line(row)}\n`).join("")}`;
}

/** All of one thing, a line for each key. */
export function renderFields(thing: Unknown, io: Io): string {
  const columns = Object.keys(thing).map((title) => ({ title, of: (row: Unknown) => row[title] }));
  return block(
    columns.map(({ of }) => printable(of(thing))),
    columns,
    io,
  );
}

function block(row: readonly string[], columns: readonly Column[], io: Io): string {
  const indent = Math.max(...columns.map(({ title }) => title.length)) + gap;
  const room = Math.max(8, io.width - indent);
  return columns
    .map(({ title }, i) => {
      const pieces = linesOfValue(row[i] ?? "", room);
      const head = bold(title, io) + " ".repeat(indent - title.length);
      return `${head}${pieces.join(`\n${" ".repeat(indent)}`)}\n`;
    })
    .join("");
}

function bold(text: string, { hasColor }: Io): string {
  return hasColor ? `\u001b[1m${text}\u001b[22m` : text;
}

/** What a VM or an operator wrote must not steer the terminal. */
export function printable(value: unknown): string {
  if (value === null || value === undefined || value === "") return "-";
  // With spaces, at which a narrow terminal may break it.
  const text = typeof value === "object" ? JSON.stringify(value, null, 1) : String(value);
  return stripVTControlCharacters(text).replaceAll(/[\p{Cc}\p{Cf}\u2028\u2029]+/gu, " ");
}

/** "3m", or the time itself when it lies ahead. */
export function ageOf(time: unknown): string | undefined {
  if (typeof time !== "string") return undefined;
  const seconds = Math.round((Date.now() - Date.parse(time)) / 1000);
  if (Number.isNaN(seconds) || seconds < 0) return time.slice(0, 16).replace("T", " ");
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 7_200) return `${Math.floor(seconds / 60)}m`;
  return seconds < 172_800 ? `${Math.floor(seconds / 3_600)}h` : `${Math.floor(seconds / 86_400)}d`;
}
