import { pause } from "./clock.ts";

/**
 * Waits until `look` answers something other than undefined, false or null, and returns it. Throws, naming what
 * it waited for, after `timeoutMs`. Errors of `look` count as "not yet" and the last one becomes the cause.
 */
export async function waitFor<T>(
  what: string,
  look: () => T | Promise<T>,
  { timeoutMs = 10_000, everyMs = 20 }: { timeoutMs?: number; everyMs?: number } = {},
): Promise<Exclude<T, undefined | false | null>> {
  const until = performance.now() + timeoutMs;
  let last: unknown;
  for (;;) {
    try {
      const seen = await look();
      if (seen !== undefined && seen !== false && seen !== null) {
        return seen as Exclude<T, undefined | false | null>;
      }
    } catch (error) {
      last = error;
    }
    if (performance.now() >= until) {
      throw new Error(`waited ${timeoutMs} ms for ${what}`, last === undefined ? undefined : { cause: last });
    }
    await pause(everyMs);
  }
}
