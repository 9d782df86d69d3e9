import { redact } from "@mig/kit";
import type { Check } from "./prerequisites.ts";
import type { ReadSettings, SettingProblem } from "./settings.ts";
import { type Settings, type Spec, settingKeys, settingsTable } from "./settings-table.ts";

/** What `miglet config`, `miglet check` and a refusal to start look like. */
export function renderProblems(problems: readonly SettingProblem[]): string {
  const lines = problems.map(({ key, source, message }) => `  ${key}: ${message} (${source})\n`);
  return `miglet cannot start; ${problems.length === 1 ? "one setting is" : `${problems.length} settings are`} wrong:\n${lines.join("")}`;
}

export function renderSettings(settings: Settings, { origins }: ReadSettings, asJson: boolean): string {
  const rows = settingKeys.map((key) => {
    const { kind }: Spec<unknown> = settingsTable[key];
    const value = settings[key];
    return {
      key,
      value,
      shown: value === undefined ? "-" : kind.show(value),
      origin: origins.get(key) ?? "default",
    };
  });
  if (asJson) {
    const content = Object.fromEntries(
      rows.map(({ key, value, origin }) => [key, { value: value ?? null, source: origin }]),
    );
    return `${JSON.stringify(redact(content), null, 2)}\n`;
  }
  return table(rows.map(({ key, shown, origin }) => [key, String(redact(shown)), origin]));
}

export function renderChecks(checks: readonly Check[], asJson: boolean): string {
  if (asJson) {
    const content = checks.map(({ name, isRequired, problem }) => ({
      check: name,
      ok: problem === undefined,
      required: isRequired,
      problem: problem ?? null,
    }));
    return `${JSON.stringify(content, null, 2)}\n`;
  }
  return table(
    checks.map(({ name, isRequired, problem }) => [
      name,
      problem === undefined ? "ok" : isRequired ? "MISSING" : "missing (not required)",
      problem ?? "",
    ]),
  );
}

function table(rows: readonly (readonly [string, string, string])[]): string {
  const width = (at: 0 | 1): number => Math.max(...rows.map((row) => row[at].length));
  const [first, second] = [width(0), Math.min(60, width(1))];
  return rows.map(([a, b, c]) => `${`${a.padEnd(first)}  ${b.padEnd(second)}  ${c}`.trimEnd()}\n`).join("");
}
