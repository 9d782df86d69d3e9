import { formatDurationMs, redact, redactText } from "@mig/kit";
import type { JsonObject } from "@mig/protocol";
import { type CloudFacts, describeCloud } from "./cloud-facts.ts";
import { isSecret } from "./judge-settings.ts";
import type { Check } from "./prerequisites.ts";
import type { ReadSettings, SettingProblem } from "./settings.ts";
import { type Settings, type Spec, settingKeys, settingsTable } from "./settings-table.ts";

/** What `miglet config`, `miglet check` and a refusal to start look like. */
export function renderProblems(problems: readonly SettingProblem[]): string {
  const lines = problems.map(({ key, source, message }) => `  ${key}: ${message} (${source})\n`);
  return `miglet cannot start; ${problems.length === 1 ? "one setting is" : `${problems.length} settings are`} wrong:\n${lines.join("")}`;
}

export function renderSettings(
  settings: Settings,
  { origins, places }: ReadSettings,
  asJson: boolean,
): string {
  const rows = settingKeys.map((key) => {
    const { kind }: Spec<unknown> = settingsTable[key];
    const value = settings[key];
    const shown = value === undefined ? "-" : redactText(kind.show(value));
    return { key, shown, value, origin: origins.get(key) ?? "default", place: places.get(key) };
  });
  if (asJson) {
    const content = Object.fromEntries(
      rows.map(({ key, shown, value, origin, place }) => [
        key,
        {
          value: value === undefined ? null : isSecret(key) ? shown : redact(value),
          source: origin,
          place: place ?? null,
        },
      ]),
    );
    return `${JSON.stringify(content, null, 2)}\n`;
  }
  return table(
    rows.map(({ key, shown, origin, place }) => [
      key,
      shown,
      origin === "metadata" && place !== undefined ? `metadata: ${place}` : origin,
    ]),
  );
}

/** The settings in force, secrets hidden as in `miglet config`. */
export function showValues(settings: Settings): JsonObject {
  return Object.fromEntries(
    settingKeys.map((key) => {
      const { kind }: Spec<unknown> = settingsTable[key];
      const value = settings[key];
      return [key, value === undefined ? null : redactText(kind.show(value))];
    }),
  );
}

export interface Checkup {
  readonly problems: readonly SettingProblem[];
  readonly warnings: readonly string[];
  readonly checks: readonly Check[];
  readonly facts?: CloudFacts | undefined;
  readonly tookMs: number;
}

/** What `miglet check` ends with: boot/exit-codes.ts. Settings come first, because the rest depends on them. */
export function exitCodeOf({ problems, checks }: Pick<Checkup, "problems" | "checks">): 0 | 2 | 3 {
  if (problems.length > 0) return 2;
  return checks.some(({ isRequired, problem }) => isRequired && problem !== undefined) ? 3 : 0;
}

export function renderCheckup(checkup: Checkup, asJson: boolean): string {
  const { problems, warnings, checks, facts, tookMs } = checkup;
  const exitCode = exitCodeOf(checkup);
  if (asJson) {
    const content = {
      ok: exitCode === 0,
      exit_code: exitCode,
      settings: problems.map(({ key, source, message }) => ({ key, source, problem: message })),
      warnings: [...warnings],
      checks: checks.map(
        ({ name, isRequired, problem, code, note, skippedFor }): JsonObject => ({
          check: name,
          ok: skippedFor === undefined ? problem === undefined : null,
          required: isRequired,
          problem: problem ?? null,
          code: problem === undefined ? null : code,
          note: note ?? null,
          skipped_for: skippedFor === undefined ? null : [...skippedFor],
        }),
      ),
      cloud: facts === undefined ? null : describeCloud(facts),
    };
    return `${JSON.stringify(redact(content), null, 2)}\n`;
  }
  const rows: Row[] = [
    ...problems.map(({ key, source, message }): Row => [key, "WRONG", `${message} (${source})`]),
    ...warnings.map((warning): Row => ["settings", "warning", warning]),
    ...checks.map(({ name, isRequired, problem, note, skippedFor }): Row => {
      if (skippedFor !== undefined) return [name, "not looked at", `it needs ${skippedFor.join(" and ")}`];
      if (problem === undefined) return [name, "ok", note ?? ""];
      return [name, isRequired ? "MISSING" : "warning", problem];
    }),
    ...(facts === undefined ? [] : [["cloud", "ok", Object.values(describeCloud(facts)).join(" ")] as const]),
  ];
  const count = (status: string): number => rows.filter(([, one]) => one === status).length;
  const [wrong, missing, warned] = [count("WRONG"), count("MISSING"), count("warning")];
  const verdict =
    exitCode === 0
      ? "This machine has what is needed"
      : `This machine is not ready: ${wrong} wrong in the settings, ${missing} missing`;
  return `${table(rows)}\n${verdict}; ${warned} warning${warned === 1 ? "" : "s"} (${formatDurationMs(Math.round(tookMs))}).\n`.replaceAll(
    /.+/g,
    (line) => redactText(line),
  );
}

type Row = readonly [string, string, string];

function table(rows: readonly Row[]): string {
  const width = (at: 0 | 1): number => Math.max(0, ...rows.map((row) => row[at].length));
  const [first, second] = [width(0), Math.min(60, width(1))];
  return rows.map(([a, b, c]) => `${`${a.padEnd(first)}  ${b.padEnd(second)}  ${c}`.trimEnd()}\n`).join("");
}
