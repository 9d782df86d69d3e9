import type { JsonObject, JsonValue } from "./messages.ts";

/**
 * Careful readers of values that somebody else wrote. Each answers undefined for what is not there or not of the
 * kind, so that a caller decides what is required. Existing agents omit zero values and send numbers and booleans
 * as text (reference/go-agent-wire.md §2, §7), hence the leniency.
 */
export type Unknown = Readonly<Record<string, unknown>>;

export function asObject(value: unknown): Unknown | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Unknown)
    : undefined;
}

export function readText(from: Unknown, key: string): string | undefined {
  const value = from[key];
  return typeof value === "string" && value !== "" ? value : undefined;
}

export function readNumber(from: Unknown, key: string): number | undefined {
  const value = from[key];
  if (typeof value === "number") return Number.isFinite(value) ? value : undefined;
  if (typeof value !== "string" || !/^-?\d{1,15}(?:\.\d{1,9})?$/.test(value)) return undefined;
  return Number(value);
}

export function readBoolean(from: Unknown, key: string): boolean | undefined {
  const value = from[key];
  if (typeof value === "boolean") return value;
  return value === "true" ? true : value === "false" ? false : undefined;
}

export function readTexts(from: Unknown, key: string): string[] | undefined {
  const value = from[key];
  if (!Array.isArray(value)) return undefined;
  return value.filter((item): item is string => typeof item === "string");
}

/** Unix milliseconds of an RFC 3339 time with any number of fraction digits; undefined for anything else. */
export function readTimeMs(from: Unknown, key: string): number | undefined {
  const text = readText(from, key);
  if (text === undefined || !/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d/.test(text)) return undefined;
  const ms = Date.parse(text);
  return Number.isNaN(ms) || ms <= 0 ? undefined : ms;
}

/** What a peer sent cannot be understood. The edge that read it answers 400 or INVALID_ARGUMENT. */
export class WireError extends Error {
  override name = "WireError";
}

const depthMax = 32;

/** The same object if it is JSON all the way down; keys that reach into prototypes are left out. */
export function toJsonObject(value: unknown, depth = 0): JsonObject {
  if (depth > depthMax) throw new WireError(`nested deeper than ${depthMax} levels`);
  const object = asObject(value);
  if (object === undefined) return {};
  const out: JsonObject = {};
  for (const [key, item] of Object.entries(object)) {
    const json = toJson(item, depth + 1);
    if (json !== undefined && key !== "__proto__") out[storable(key)] = json;
  }
  return out;
}

function toJson(value: unknown, depth: number): JsonValue | undefined {
  if (depth > depthMax) throw new WireError(`nested deeper than ${depthMax} levels`);
  if (typeof value === "string") return storable(value);
  if (value === null || typeof value === "boolean") return value;
  if (typeof value === "number") return Number.isFinite(value) ? value : undefined;
  if (Array.isArray(value)) return value.map((item) => toJson(item, depth + 1) ?? null);
  return asObject(value) === undefined ? undefined : toJsonObject(value, depth);
}

/** PostgreSQL holds neither NUL nor half a surrogate pair; nothing that a VM reports needs them. */
function storable(text: string): string {
  return text.replaceAll("\0", "\uFFFD").toWellFormed();
}

/** `{ [key]: value }`, or nothing: for optional properties under `exactOptionalPropertyTypes`. */
export function maybe<K extends string, V>(key: K, value: V | undefined): { [P in K]?: V } {
  return value === undefined ? {} : ({ [key]: value } as { [P in K]?: V });
}

/** What the URL and the clock know of a message whose sender did not say it. */
export interface About {
  vmId: string;
  nowMs: number;
}
