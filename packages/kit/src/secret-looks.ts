export const REDACTED = "[secret]";

/** What a secret looks like, whoever made it and wherever it stands in a text. */
interface Look {
  readonly look: RegExp;
  hide(match: string, ...groups: string[]): string;
}

const whole = (look: RegExp): Look => ({ look, hide: () => REDACTED });
/** The first group introduces the secret and stays. */
const after = (look: RegExp): Look => ({ look, hide: (_match, before) => `${before}${REDACTED}` });

/** Of a parameter, a key or a flag that ends like this the value is secret. */
const word =
  "(?:token|secret|passw(?:or)?d|passphrase|(?:private|access|secret|signing|api)[_-]?key|jit[_-]?config|credentials?|cookie|authorization)";
/** Bounded, so that no text makes the search slow. */
const name = `[\\w.-]{0,64}?${word}`;

const looks: readonly Look[] = [
  whole(
    /-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----[\s\S]*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|$)/g,
  ),
  // Base64 of DER: the body of such a key without its frame.
  whole(/(?<![A-Za-z0-9])MI[IG][A-Za-z0-9+/]{60,}={0,2}/g),
  // user:password@ or token@ in a URL, but not the user that everybody has.
  after(/\b([a-z][a-z0-9+.-]{1,20}:\/\/)(?!git@)[^\s/?#"'<>\\]{1,2048}(?=@)/gi),
  // "token": "…", also within a JSON text that is itself a string of JSON.
  {
    look: new RegExp(`"(${name})"(\\s*:\\s*)"(?:\\\\[\\s\\S]|[^"\\\\])*"?`, "gi"),
    hide: (_match, key, colon) => `"${key}"${colon}"${REDACTED}"`,
  },
  {
    look: new RegExp(`\\\\"(${name})\\\\"(\\s*:\\s*)\\\\"[^"\\\\]*`, "gi"),
    hide: (_match, key, colon) => `\\"${key}\\"${colon}\\"${REDACTED}`,
  },
  after(
    /((?<!\w)(?:(?:proxy-)?authorization|(?:set-)?cookie|x-api-key|x-[\w-]{0,40}token)["']?[ \t]*:[ \t]*["']?)[^\r\n"']+/gi,
  ),
  after(new RegExp(`((?<!\\w)${name} ?= ?)(?!=)(?:"[^"\\n]*"?|'[^'\\n]*'?|[^\\s"'&,;<>]+)`, "gi")),
  after(
    /([?&](?:sig|signature|key|auth|code|pat|x-amz-(?:signature|credential|security-token))=)[^&\s#"'<>]+/gi,
  ),
  // A flag and its value, as in a list of arguments. A sentence about the flag goes on in small letters.
  {
    look: new RegExp(`((?<!\\w)--?${name}\\s+)("[^"\\n]*"|'[^'\\n]*'|[^\\s"']+)`, "gi"),
    hide: (match, flag = "", value = "") =>
      /^[a-z]{1,19}[.,;:)]*$/.test(value) ? match : `${flag}${REDACTED}`,
  },
  // The scheme with what proves it; "Bearer realm=…" is what a server asks for.
  after(
    /(\bBearer\s+)(?!(?:realm|error|scope)=|(?:tokens?|auth|authentication|authorization|scheme|header|is|was|or|and|sends)[.,;:!?)]*(?:\s|$))[^\s"',;]+/g,
  ),
  after(/(\b(?:bearer|BEARER)\s+)(?!(?:realm|error|scope)=)(?=[^\s"',;]*[0-9A-Z])[^\s"',;]{6,}/g),
  {
    look: /(\bBasic\s+)([A-Za-z0-9+/_-]{4,}={0,2})/gi,
    hide: (match, scheme = "", value = "") =>
      Buffer.from(value, "base64").includes(":") ? `${scheme}${REDACTED}` : match,
  },
  // A GitHub token: forty characters of old, or stateless, `ghs_<app id>_<jwt>` (runner-contract §9).
  whole(/(?<![A-Za-z0-9])gh[pousr]_[\w.-]{11,}/g),
  whole(
    /(?<![A-Za-z0-9])(?:github_pat_\w{16,}|mg[ja]_\w{12,}|hv[sb]\.[\w-]{16,}|glpat-[\w-]{16,}|xox[abeoprs]-[\w-]{10,}|ya29\.[\w-]{16,}|AIza[\w-]{30,}|A[KS]IA[A-Z0-9]{16})/g,
  ),
  // A registration token of a runner, real or of the stand-in.
  whole(/(?<![A-Za-z0-9])(?:A[A-Z0-9]{28}(?![A-Za-z0-9])|AHTX[A-Z0-9]{12,})/g),
  // A JWT, and a JIT config: base64 of a JSON object begins like this, written closely, with blanks or with lines.
  whole(/(?<![A-Za-z0-9])ey[A-L][A-Za-z0-9_+/-]{8,}(?:={0,2}\.[A-Za-z0-9_-]+){1,4}\.?/g),
  whole(/(?<![A-Za-z0-9])e(?:y[A-L]|wo|w0)[A-Za-z0-9_+/-]{20,}={0,2}/g),
];

export function redactLooks(text: string): string {
  let out = text;
  for (const { look, hide } of looks) out = out.replace(look, hide);
  return out;
}
