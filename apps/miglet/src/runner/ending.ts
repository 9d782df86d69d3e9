import { pause } from "@mig/kit";

/** Something that ends once, and may be waited for. */
export interface Ending {
  mark(): void;
  /** True when it has ended, false after so long. */
  within(withinMs: number): Promise<boolean>;
}

export function createEnding(): Ending {
  const { promise, resolve } = Promise.withResolvers<true>();
  return {
    mark: () => resolve(true),
    async within(withinMs) {
      const timer = new AbortController();
      const ended = await Promise.race([promise, pause(withinMs, timer.signal).then(() => false)]);
      timer.abort();
      return ended;
    },
  };
}
