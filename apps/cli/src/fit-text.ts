import { stripVTControlCharacters } from "node:util";
import { displayWidth, piecesOf } from "./display-width.ts";

/** Commands that a person copies: what follows a break still belongs to them. */
const isCommand = /^\s*(?:migctl|source) /;
/** "  --option VALUE  " or "  word  ": what follows is broken beside it. */
const head = /^\s*\S+(?: \S+)?\s{2,}/;
// What moves the cursor has looked at the width itself.
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the ones that are looked for
const steers = /\r(?!\n)|\u001b\[[^m]*[A-Za-ln-z]|\u001b[^[]/;

/**
 * No line is wider than the terminal: broken at its spaces, and where there are none, anywhere. What follows a break
 * stands beside what it belongs to.
 */
export function fitText(text: string, width: number): string {
  if (!Number.isFinite(width) || steers.test(text)) return text;
  return text
    .split("\n")
    .map((line) => (displayWidth(line) <= width ? line : fitLine(line, width, true)))
    .join("\n");
}

/** The lines of a value in a column of its own. */
export function linesOfValue(text: string, width: number): string[] {
  return displayWidth(text) <= width ? [text] : fitLine(text, width, false).split("\n");
}

const hangOf = (headWidth: number, lead: number, width: number): number =>
  Math.min(headWidth > lead && headWidth <= width / 2 ? headWidth : lead + 2, width >> 1);

function fitLine(line: string, width: number, hangs: boolean): string {
  const lead = /^\s*/.exec(line)?.[0].length ?? 0;
  const headWidth = displayWidth(head.exec(line)?.[0] ?? "");
  const indent = hangs ? hangOf(headWidth, lead, width) : 0;
  const tail = hangs && isCommand.test(line) ? " \\" : "";
  const room = width - tail.length;
  const lines: string[] = [];
  let now = "";
  const turn = (): void => {
    lines.push(now + tail);
    now = " ".repeat(indent);
  };
  // Several spaces in a row are layout and stay together with what follows.
  for (const word of stripVTControlCharacters(line).match(/\s*\S+/g) ?? []) {
    if (displayWidth(now + word) <= room) {
      now += word;
      continue;
    }
    if (now.trim() !== "") turn();
    const [first = "", ...more] = piecesOf(word.trimStart(), room - Math.max(indent, displayWidth(now)));
    now += first;
    for (const piece of more) {
      lines.push(now);
      now = " ".repeat(indent) + piece;
    }
  }
  return [...lines, now].join("\n");
}
