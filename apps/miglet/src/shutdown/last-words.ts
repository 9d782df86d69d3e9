import type { Outbox } from "../link/outbox.ts";

export interface LastWords {
  reason: string;
  exitCode: number;
}

/**
 * `vm_shutting_down`, then everything that still waits, then `vm_terminated` as the very last event. True when all
 * of it was acknowledged; the time is bounded because a VM costs money while nobody answers.
 */
export async function sayLastWords(outbox: Outbox, about: LastWords, flushMs = 10_000): Promise<boolean> {
  const data = { reason: about.reason, exit_code: about.exitCode };
  await outbox.append("vm_shutting_down", data);
  const startedMs = performance.now();
  await outbox.flush(flushMs);
  await outbox.append("vm_terminated", data);
  // What could not be delivered before is behind it in the same queue: only the rest of the time is left.
  return outbox.flush(Math.max(flushMs / 4, flushMs - (performance.now() - startedMs)));
}
