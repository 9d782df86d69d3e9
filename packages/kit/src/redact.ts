import { hideLive, tailOfLive } from "./live-secrets.ts";
import { REDACTED, redactLooks } from "./secret-looks.ts";

/**
 * Takes secrets out of what is about to be printed: by the name of the key, by the look of the value
 * (secret-looks.ts), and by the live values that the program registered (live-secrets.ts). Used by the log and by
 * everything that shows settings.
 */
export { hideValue } from "./live-secrets.ts";
export { REDACTED } from "./secret-looks.ts";

/** Of a key, in any spelling: access_token, accessToken, X-Access-Token, github.access.token. */
const secretName =
  /(?:^|[_./-])(?:tokens?|secrets?|passwords?|passwd|passphrase|authorization|cookies?|(?:private|access|secret|signing|encryption|shared|api)[_-]?keys?|jit[_-]?config|credentials?|pem|bearer)$/i;

const textMax = 8192;
const breadthMax = 100;
const depthMax = 6;
/** Wide values within wide values multiply; a log line must cost a bounded time whatever somebody put into it. */
const nodesMax = 2_000;

/** Live values first: what a pattern had cut out of the middle of one would leave its rest to be read. */
export function redactText(text: string): string {
  return redactLooks(hideLive(text));
}

/** A copy of `value` without secrets; depth, breadth, size and string length are bounded. Never throws. */
export function redact(value: unknown): unknown {
  return redactWithin(value, 0, { nodes: 0 });
}

interface Spent {
  nodes: number;
}

function redactWithin(value: unknown, depth: number, spent: Spent): unknown {
  spent.nodes += 1;
  if (typeof value === "string") return redactBounded(value);
  if (value === null || typeof value !== "object")
    return typeof value === "bigint" ? value.toString() : value;
  if (depth > depthMax) return "[deep]";
  if (spent.nodes > nodesMax) return "[wide]";
  try {
    return redactObject(value, depth, spent);
  } catch {
    return "[unreadable]"; // A getter or a proxy that throws.
  }
}

function redactObject(value: object, depth: number, spent: Spent): unknown {
  if (value instanceof Error) return redactError(value, depth, spent);
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`;
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString();
  if (value instanceof URL) return redactBounded(value.href);
  if (value instanceof Map) return redactEntries(value.entries(), depth, spent);
  if (Array.isArray(value) || value instanceof Set)
    return [...value].slice(0, breadthMax).map((item) => redactWithin(item, depth + 1, spent));
  return redactEntries(Object.entries(value), depth, spent);
}

function redactEntries(
  entries: Iterable<readonly [unknown, unknown]>,
  depth: number,
  spent: Spent,
): Record<string, unknown> {
  const out: [string, unknown][] = [];
  for (const [key, item] of entries) {
    if (out.length >= breadthMax) break;
    const name = String(key);
    // A key may be a secret itself: a map by token.
    const shown = name.length < 12 ? name : redactText(name.slice(0, 256));
    out.push([shown, isSecret(name, item) ? REDACTED : redactWithin(item, depth + 1, spent)]);
  }
  return Object.fromEntries(out);
}

/** That something is absent, empty or set is no secret, and helps whoever reads the log. */
function isSecret(name: string, value: unknown): boolean {
  if (value === undefined || value === null || value === "" || typeof value === "boolean") return false;
  return secretName.test(name.replaceAll(/([a-z0-9])([A-Z])/g, "$1_$2"));
}

function redactBounded(text: string): string {
  if (text.length <= textMax) return redactText(text);
  const cut = text.slice(0, textMax);
  // The cut must not leave the first half of a secret that is recognized only as a whole.
  const whole = cut.slice(0, cut.length - tailOfLive(cut)).replace(/[\w.+/=~:%-]{1,512}$/, "");
  return `${redactText(whole)}… (${text.length} characters)`;
}

function redactError(error: Error, depth: number, spent: Spent): Record<string, unknown> {
  const out: Record<string, unknown> = { name: error.name, message: redactBounded(error.message) };
  if ("code" in error) out["code"] = redactWithin(error.code, depth + 1, spent);
  if (error.stack !== undefined && depth <= 1) out["stack"] = redactBounded(error.stack);
  if (error.cause !== undefined) out["cause"] = redactWithin(error.cause, depth + 1, spent);
  if (error instanceof AggregateError) out["errors"] = redactWithin(error.errors, depth + 1, spent);
  return out;
}
