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
  /** A log that adds these fields to each line and shares the level of its parent. */
  child(fields: LogFields): Log;
  setLevel(level: LogLevel): void;
  level(): LogLevel;
}

export interface LogSettings {
  level: LogLevel;
  format?: "json" | "text";
  fields?: LogFields;
  write?: (line: string) => void;
}

export function createLog(settings: LogSettings): Log {
  const shared = { level: logLevels.indexOf(settings.level) };
  const write = settings.write ?? ((line: string) => void process.stdout.write(line));
  const render = settings.format === "text" ? renderText : renderJson;
  const make = (bound: LogFields): Log => {
    const at = (level: LogLevel) => (fields: LogFields, sentence: string) => {
      if (logLevels.indexOf(level) >= shared.level) write(render(level, { ...bound, ...fields }, sentence));
    };
    return {
      debug: at("debug"),
      info: at("info"),
      warn: at("warn"),
      error: at("error"),
      child: (fields) => make({ ...bound, ...fields }),
      setLevel: (level) => {
        shared.level = logLevels.indexOf(level);
      },
      level: () => logLevels[shared.level] ?? "info",
    };
  };
  return make(settings.fields ?? {});
}

/** A log that keeps nothing, for tests and libraries. */
export const silentLog: Log = createLog({ level: "error", write: () => {} });

export function isLogLevel(text: string): text is LogLevel {
  return (logLevels as readonly string[]).includes(text);
}

function renderJson(level: LogLevel, fields: LogFields, sentence: string): string {
  const safe = redact(fields) as Record<string, unknown>;
  return `${JSON.stringify({ time: new Date().toISOString(), level, msg: redactText(sentence), ...safe })}\n`;
}

function renderText(level: LogLevel, fields: LogFields, sentence: string): string {
  const safe = redact(fields) as Record<string, unknown>;
  const rest = Object.entries(safe)
    .filter(([, value]) => value !== undefined)
    .map(
      ([key, value]) =>
        `${key}=${typeof value === "string" && /^[!-~]+$/.test(value) ? value : toVisible(JSON.stringify(value))}`,
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
