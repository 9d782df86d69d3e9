/**
 * Takes secrets out of what is about to be printed: by the name of the key, by the look of the value, and by
 * the live values that the program registered. Used by the log and by everything that shows settings.
 */
const secretName =
  /(?:^|_|-)(?:token|secret|password|passwd|authorization|cookie|private_?key|jit_?config|encoded_jit_config|credentials?|registration_token|api_?key|pem)$/i;

const secretLook =
  /\b(?:gh[pousr]_[A-Za-z0-9_]{16,}|github_pat_[A-Za-z0-9_]{20,}|mg[ja]_[A-Za-z0-9_]{12,}|hvs\.[A-Za-z0-9_-]{16,}|AKIA[A-Z0-9]{16}|A[A-Z0-9]{28}|AHTX[A-Z0-9]{12,}|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*)|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)|\bBearer\s+\S+/g;

export const REDACTED = "[secret]";
const live = new Set<string>();

/** From now on this value is hidden wherever it appears in a log line. Returns a function that forgets it. */
export function hideValue(secret: string): () => void {
  if (secret.length < 6) return () => {};
  live.add(secret);
  return () => {
    live.delete(secret);
  };
}

export function redactText(text: string): string {
  let out = text.replace(secretLook, REDACTED);
  for (const secret of live) if (out.includes(secret)) out = out.replaceAll(secret, REDACTED);
  return out;
}

/** A copy of `value` without secrets; depth, breadth and string length are bounded. */
export function redact(value: unknown, depth = 0): unknown {
  if (typeof value === "string") {
    return redactText(value.length > 8192 ? `${value.slice(0, 8192)}… (${value.length} characters)` : value);
  }
  if (value === null || typeof value !== "object")
    return typeof value === "bigint" ? value.toString() : value;
  if (depth > 6) return "[deep]";
  if (value instanceof Error) return redactError(value, depth);
  if (Array.isArray(value)) return value.slice(0, 100).map((item) => redact(item, depth + 1));
  const out: Record<string, unknown> = {};
  for (const [key, item] of Object.entries(value).slice(0, 100)) {
    out[key] = secretName.test(key) && item !== undefined && item !== "" ? REDACTED : redact(item, depth + 1);
  }
  return out;
}

function redactError(error: Error, depth: number): Record<string, unknown> {
  const out: Record<string, unknown> = { name: error.name, message: redactText(error.message) };
  if ("code" in error) out["code"] = error.code;
  if (error.stack !== undefined && depth <= 1) out["stack"] = redactText(error.stack);
  if (error.cause !== undefined) out["cause"] = redact(error.cause, depth + 1);
  return out;
}
