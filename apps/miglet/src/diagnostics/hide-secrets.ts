import { REDACTED, redact, redactText } from "@mig/kit";

const blockCharacters = 16 * 1024;
/** A longer line is cut, as in the log. */
const lineMax = 8 * 1024;

const keyBegins = /-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY/;
const keyEnds = /-----END [A-Z0-9 ]{0,40}PRIVATE KEY/;

/**
 * The text without secrets, by the rules of the log. It goes block by block, and others get their turn between: a
 * heartbeat does not wait for a megabyte. What goes over several lines, a private key, is followed over the blocks; one
 * whose beginning was cut off is taken out with all that stands before its end.
 */
export async function hideSecrets(text: string): Promise<string> {
  const out: string[] = [];
  let block = "";
  let isInKey = startsInKey(text);
  if (isInKey) out.push(`${REDACTED}\n`);
  for (let at = 0; at < text.length; ) {
    const end = text.indexOf("\n", at) + 1 || text.length;
    const line = text.slice(at, end);
    at = end;
    if (isInKey) {
      isInKey = !keyEnds.test(line);
      continue;
    }
    isInKey = keyBegins.test(line) && !keyEnds.test(line.slice(line.lastIndexOf("-----BEGIN")));
    block += isInKey ? `${line.slice(0, line.lastIndexOf("-----BEGIN"))}${REDACTED}\n` : shorten(line);
    if (block.length < blockCharacters && at < text.length) continue;
    out.push(redactText(block));
    block = "";
    await new Promise(setImmediate);
  }
  if (block !== "") out.push(redactText(block));
  return out.join("");
}

function startsInKey(text: string): boolean {
  const end = text.search(keyEnds);
  return end >= 0 && !keyBegins.test(text.slice(0, end));
}

/** Secrets are out before the cut, so that it leaves no half of one. */
function shorten(line: string): string {
  return line.length <= lineMax ? line : `${String(redact(line.trimEnd()))}\n`;
}
