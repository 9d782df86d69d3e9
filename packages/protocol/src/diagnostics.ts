import { limits } from "./limits.ts";
import type { JsonObject } from "./messages.ts";
import { maybe } from "./read-json.ts";

/** What `collect_diagnostics` may say. */
export interface DiagnosticsOrder {
  /** For people, in the manifest of the bundle. */
  readonly reason?: string;
  /** Of the bundle, compressed. */
  readonly maxBytes: number;
}

/** The parameters `reason` and `max_bytes`, or a sentence that says what is wrong with them. */
export function readDiagnosticsOrder(parameters: JsonObject): DiagnosticsOrder | string {
  const { reason, max_bytes: maxBytes = limits.diagnosticsBytesMax, ...others } = parameters;
  const [odd] = Object.keys(others);
  if (odd !== undefined)
    return `collect_diagnostics has no parameter ${odd.slice(0, 64)}; it has reason and max_bytes.`;
  if (reason !== undefined && (typeof reason !== "string" || reason.length > reasonMax))
    return `reason is a text of at most ${reasonMax} characters.`;
  const { diagnosticsBytesMin: least, diagnosticsBytesMax: most } = limits;
  if (typeof maxBytes !== "number" || !Number.isInteger(maxBytes) || maxBytes < least || maxBytes > most)
    return `max_bytes is a whole number from ${least} to ${most}.`;
  return { ...maybe("reason", reason), maxBytes };
}

const reasonMax = 500;

/** `Content-Digest` of RFC 9530, the one way in which it is used here; `sha256` in hexadecimal. */
export function writeContentDigest(sha256: string): string {
  return `sha-256=:${Buffer.from(sha256, "hex").toString("base64")}:`;
}

/** Of one that has it among others; undefined where it says nothing that can be checked. */
export function readContentDigest(header: string | undefined): string | undefined {
  const base64 = /(?:^|,)\s*sha-256=:([A-Za-z0-9+/]{43}=):/.exec(header ?? "")?.[1];
  return base64 === undefined ? undefined : Buffer.from(base64, "base64").toString("hex");
}
