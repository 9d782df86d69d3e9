import { asObject, type Unknown } from "@mig/protocol";

/** A store's JSON, or undefined. Without an error: parsers quote what they could not read. */
export function readJson(bytes: Buffer | string): Unknown | undefined {
  try {
    return asObject(JSON.parse(bytes.toString()));
  } catch {
    return undefined;
  }
}

/** Undefined when it is not base64 and nothing else. */
export function readBase64(text: string): Buffer | undefined {
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(text) || text.length % 4 !== 0) return undefined;
  return Buffer.from(text, "base64");
}
