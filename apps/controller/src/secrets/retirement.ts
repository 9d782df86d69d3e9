import type { Clock } from "@mig/kit";
import type { SecretValue } from "./secret-value.ts";

/**
 * Where replaced values wait to be overwritten: whoever was just given one has the time to use it, and an answer that
 * is on its way and quotes it still finds it hidden.
 */
export interface Retirement {
  retire(value: SecretValue | undefined): void;
  close(): void;
}

const retireMs = 60_000;

export function createRetirement(clock: Clock): Retirement {
  const waiting = new Map<SecretValue, () => void>();
  return {
    retire(value) {
      if (value === undefined || waiting.has(value)) return;
      const cancel = clock.after(retireMs, () => {
        waiting.delete(value);
        value.dispose();
      });
      waiting.set(value, cancel);
    },
    close() {
      for (const [value, cancel] of waiting) {
        cancel();
        value.dispose();
      }
      waiting.clear();
    },
  };
}
