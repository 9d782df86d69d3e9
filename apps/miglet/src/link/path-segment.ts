import { MigError } from "@mig/lifecycle";

/**
 * An id as one segment of a path (go-agent-wire A30). Dots alone cannot be escaped: URLs take "%2e%2e" for ".." too,
 * and such an id would ask something else of the server.
 */
export function pathSegment(id: string): string {
  if (/^\.{0,2}$/.test(id))
    throw new MigError("invalid_request", `${JSON.stringify(id)} cannot be an id in an address.`);
  try {
    return encodeURIComponent(id);
  } catch (cause) {
    throw new MigError("invalid_request", "An id is not well-formed text.", { cause });
  }
}
