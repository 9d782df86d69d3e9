import type { Line, Report } from "./check.ts";

const words = { well: "ok", advice: "warn", wrong: "FAIL" } as const;

/** A table for each App, and what to do about each line that is not well. */
export function showReports(reports: readonly Report[]): string {
  if (reports.length === 0)
    return "This controller has no GitHub App. See docs/operate/github-app.md, or POST /api/v1/github-apps.\n";
  return reports.map(showReport).join("\n");
}

function showReport({ app, ok, lines }: Report): string {
  const widthOf = (texts: readonly string[]): number => Math.max(0, ...texts.map((text) => text.length));
  const checkWidth = widthOf(lines.map(({ check }) => check));
  const rows = lines.flatMap((line) => {
    const head = `  ${wordOf(line).padEnd(4)}  ${line.check.padEnd(checkWidth)}`;
    const indent = " ".repeat(head.length + 2);
    const first = [line.about, line.ok ? line.found : line.problem]
      .filter((part) => part !== undefined)
      .join(": ");
    return [
      `${head}  ${printable(first)}`.trimEnd(),
      ...(line.remedy === undefined ? [] : [`${indent}→ ${printable(line.remedy)}`]),
    ];
  });
  const advice = lines.filter((line) => !line.ok && !line.required).length;
  const verdict = ok ? "can register runners" : "cannot register runners as it is set up";
  const more = advice === 0 ? "" : ` (${advice} piece${advice === 1 ? "" : "s"} of advice)`;
  return `${printable(app)} ${verdict}${more}\n${rows.map((row) => `${row}\n`).join("")}`;
}

function wordOf({ ok, required }: Line): string {
  return ok ? words.well : required ? words.wrong : words.advice;
}

/** What GitHub or an operator wrote must not steer the terminal. */
function printable(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Cf}\u2028\u2029]+/gu, " ");
}
