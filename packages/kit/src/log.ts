import { createLineWriter, type LineStream, type LineWriter } from "./line-writer.ts";
import { redact, redactText } from "./redact.ts";

/**
 * Structured logging: one JSON object a line, a constant sentence and fields, secrets taken out. Small on
 * purpose: it also runs on every VM, where a logging library costs a megabyte of the agent's fifty.
 */
export const logLevels = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof logLevels)[number];
export type LogFields = Readonly<Record<string, unknown>>;

export interface Log {
  debug(fields: LogFields, sentence: string): void;
  info(fields: LogFields, sentence: string): void;
  warn(fields: LogFields, sentence: string): void;
  error(fields: LogFields, sentence: string): void;
  /** A log that adds these fields to each line and shares level and correlation with its parent. */
  child(fields: LogFields): Log;
  /** From now on every line of this log, its parents and its children has these fields: the job that is running. */
  correlate(fields: LogFields): void;
  setLevel(level: LogLevel): void;
  level(): LogLevel;
  /** Before the process ends: true when whoever reads the log has taken everything within this time. */
  flush(withinMs: number): Promise<boolean>;
}

export interface LogSettings {
  level: LogLevel;
  format?: "json" | "text";
  fields?: LogFields;
  /** Where lines go instead of standard output; it must not wait. */
  write?: (line: string) => void;
  /** Instead of standard output. */
  stream?: LineStream;
  /** Sees each line, too; it must not wait. */
  keep?: (line: string) => void;
}

export function createLog(settings: LogSettings): Log {
  const shared: { level: number; correlation: LogFields } = {
    level: logLevels.indexOf(settings.level),
    correlation: {},
  };
  const render = settings.format === "text" ? renderText : renderJson;
  const sentence = "Whoever reads this log was too slow; lines are missing here.";
  let writer: LineWriter | undefined;
  const toStream = (line: string): void => {
    writer ??= createLineWriter({
      stream: settings.stream ?? process.stdout,
      note: (dropped) => render("warn", { ...settings.fields, log_lines_dropped: dropped }, sentence),
    });
    writer.write(line);
  };
  const write = settings.write ?? toStream;
  const { keep } = settings;
  const make = (bound: LogFields): Log => {
    const at = (level: LogLevel) => (fields: LogFields, sentence: string) => {
      if (logLevels.indexOf(level) < shared.level) return;
      const line = render(level, { ...bound, ...shared.correlation, ...fields }, sentence);
      keep?.(line);
      write(line);
    };
    return {
      debug: at("debug"),
      info: at("info"),
      warn: at("warn"),
      error: at("error"),
      child: (fields) => make({ ...bound, ...fields }),
      correlate: (fields) => {
        shared.correlation = fields;
      },
      setLevel: (level) => {
        shared.level = logLevels.indexOf(level);
      },
      level: () => logLevels[shared.level] ?? "info",
      flush: (withinMs) => writer?.flush(withinMs) ?? Promise.resolve(true),
    };
  };
  return make(settings.fields ?? {});
}

/** A log that keeps nothing, for tests and libraries. */
export const silentLog: Log = createLog({ level: "error", write: () => {} });

export function isLogLevel(text: string): text is LogLevel {
  return (logLevels as readonly string[]).includes(text);
}

/** What every line has for itself; a field of this name keeps its value under another one. */
const ownKeys: readonly string[] = ["time", "level", "msg"];

function safeFields(fields: LogFields): [string, unknown][] {
  const safe = Object.entries(redact(fields) as Record<string, unknown>);
  return safe.map(([key, value]) => [ownKeys.includes(key) ? `field_${key}` : key, value]);
}

function renderJson(level: LogLevel, fields: LogFields, sentence: string): string {
  const rest = Object.fromEntries(safeFields(fields));
  return `${JSON.stringify({ time: new Date().toISOString(), level, msg: redactText(sentence), ...rest })}\n`;
}

function renderText(level: LogLevel, fields: LogFields, sentence: string): string {
  const rest = safeFields(fields)
    .filter(([, value]) => value !== undefined)
    .map(
      ([key, value]) =>
        `${key}=${typeof value === "string" && /^[!-~]+$/.test(value) ? value : toVisible(JSON.stringify(value) ?? "")}`,
    )
    .join(" ");
  const time = new Date().toISOString().slice(11, 23);
  return `${time} ${level.padEnd(5)} ${redactText(sentence)}${rest === "" ? "" : `  ${rest}`}\n`;
}

/** JSON escapes some control characters only. A terminal obeys the others too, and those that turn the reading direction. */
function toVisible(text: string): string {
  return text.replaceAll(
    /[\p{Cc}\p{Cf}\u2028\u2029]/gu,
    (character) => `\\u${(character.codePointAt(0) ?? 0).toString(16).padStart(4, "0")}`,
  );
}
