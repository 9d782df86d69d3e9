import { pause } from "@mig/kit";
import type { Unknown } from "@mig/protocol";
import { type Api, ApiError } from "../api.ts";

/** How often what is under way is looked at. */
export const lookMs = 500;
/** Longer than a restart takes. */
const patienceMs = 60_000;

/**
 * What is looked at goes on without us: a controller that is busy or starts again is no reason to stop looking.
 * Undefined: `signal` came first.
 */
export async function lookPatiently(
  api: Api,
  path: string,
  signal: AbortSignal,
): Promise<Unknown | undefined> {
  const untilMs = performance.now() + patienceMs;
  for (;;) {
    try {
      return await api.call("GET", path);
    } catch (error) {
      if (signal.aborted) return undefined;
      const isPassing =
        error instanceof ApiError &&
        (error.status === undefined || [429, 502, 503, 504].includes(error.status));
      if (!isPassing || performance.now() > untilMs) throw error;
      await pause(lookMs, signal).catch(() => {});
    }
  }
}
