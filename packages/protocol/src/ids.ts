/**
 * Ids of VMs, pools and organizations as they may come from outside. They become path segments, file names, log
 * fields and labels, so the alphabet is closed: no separators, no leading dash or dot, no "..", at most 128
 * characters (reliability-security §5.3, "common string set").
 */
export const ID_PATTERN = "^(?!.*\\.\\.)[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?$";
const idRule = new RegExp(ID_PATTERN);

export function isId(text: unknown): text is string {
  return typeof text === "string" && idRule.test(text);
}

/** Event and command types, and everything else that names a kind: lower case words with underscores. */
export const KIND_PATTERN = "^[a-z][a-z0-9_]{0,63}$";
const kindRule = new RegExp(KIND_PATTERN);

export function isKind(text: unknown): text is string {
  return typeof text === "string" && kindRule.test(text);
}
