import { MigError } from "@mig/lifecycle";
import type { FastifyReply, FastifyRequest } from "fastify";

/** Bodies that are in memory at once: 4 MiB. */
const slotsMax = 4;
const againMs = 2_000;

/**
 * Room for large bodies. Who gets none is told before a byte of its body is read, and to come again: `overloaded` when
 * all are taken, `conflict` for a second upload of a VM beside its first, so that one VM cannot take them all.
 */
export function createUploadSlots(max = slotsMax) {
  const taken = new Set<string>();
  return async (request: FastifyRequest, reply: FastifyReply): Promise<void> => {
    const { vm_id: vmId = "" } = request.params as { vm_id?: string };
    if (taken.has(vmId))
      throw new MigError("conflict", `an upload of ${vmId} is under way`, { retryAfterMs: againMs });
    if (taken.size >= max)
      throw new MigError("overloaded", `${taken.size} uploads are under way; come again later`, {
        retryAfterMs: againMs,
      });
    taken.add(vmId);
    // However it ends, also when the peer goes away in the middle.
    reply.raw.once("close", () => taken.delete(vmId));
  };
}
