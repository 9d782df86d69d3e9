import { REDACTED } from "./secret-looks.ts";

/** The values that this process holds and nobody may read, with the forms in which they get into text. */
const held = new Map<string, number>();
let longestFirst: string[] = [];

/**
 * From now on this value is hidden wherever it appears: as it is, escaped for JSON or a URL, and in base64. Returns a
 * function that forgets it; it stays hidden while somebody else holds it. A value of fewer than six characters is not
 * taken, because it would be found in the middle of words.
 */
export function hideValue(secret: string): () => void {
  if (secret.length < 6) return () => {};
  const forms = formsOf(secret);
  for (const form of forms) held.set(form, (held.get(form) ?? 0) + 1);
  sort();
  let isForgotten = false;
  return () => {
    if (isForgotten) return;
    isForgotten = true;
    for (const form of forms) {
      const left = (held.get(form) ?? 1) - 1;
      if (left === 0) held.delete(form);
      else held.set(form, left);
    }
    sort();
  };
}

/** The longest first: one that contains another is hidden whole. */
export function hideLive(text: string): string {
  let out = text;
  for (const secret of longestFirst) if (out.includes(secret)) out = out.replaceAll(secret, REDACTED);
  return out;
}

/** How many characters at the end of `text` are the beginning of a live value. */
export function tailOfLive(text: string): number {
  let most = 0;
  for (const secret of longestFirst)
    for (let n = Math.min(secret.length - 1, text.length); n > most; n -= 1)
      if (text.endsWith(secret.slice(0, n))) most = n;
  return most;
}

function sort(): void {
  longestFirst = [...held.keys()].sort((a, b) => b.length - a.length);
}

function formsOf(secret: string): ReadonlySet<string> {
  const bytes = Buffer.from(secret);
  // The padding depends on what follows; without it the form is found either way.
  const base64 = bytes.toString("base64").replace(/=+$/, "");
  return new Set([
    secret,
    JSON.stringify(secret).slice(1, -1),
    urlForm(secret),
    base64,
    bytes.toString("base64url"),
  ]);
}

/** A lone surrogate has no form in a URL. */
function urlForm(secret: string): string {
  try {
    return encodeURIComponent(secret);
  } catch {
    return secret;
  }
}
