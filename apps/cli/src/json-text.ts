/** Any sign that steers a terminal or hides in a text. JSON.stringify leaves those above U+001F as they are. */
const unseen = /[\u007f-\u009f\p{Cf}\u2028\u2029]/gu;

/** JSON that may also be looked at: what would steer the terminal is an escape in it, and the same when it is parsed. */
export function jsonText(value: unknown, indent?: number): string {
  return JSON.stringify(value, null, indent).replaceAll(unseen, (sign) =>
    Array.from(
      { length: sign.length },
      (_, i) => `\\u${sign.charCodeAt(i).toString(16).padStart(4, "0")}`,
    ).join(""),
  );
}
