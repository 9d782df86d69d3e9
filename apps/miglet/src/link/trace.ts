import { createHash } from "node:crypto";

/**
 * W3C Trace Context for events: all that is told between two registrations is one trace, and each event a span of it.
 * Derived from names that survive a restart of the agent, so that the job which outlived it stays one trace.
 * https://www.w3.org/TR/trace-context/
 */
export function traceparentOf(life: string, eventId: string): string {
  const hash = (text: string): string => createHash("sha256").update(text).digest("hex");
  // An id of zeros is invalid; a hash of a text is none.
  return `00-${hash(life).slice(0, 32)}-${hash(eventId).slice(0, 16)}-01`;
}
