import { type Clock, type Log, systemClock } from "@mig/kit";
import type { VmHealth } from "@mig/protocol";

/**
 * Figures of the machine at `metrics.collection_interval`, whatever the heartbeats do: they send the newest, and the
 * watermarks look at each.
 */
export interface Sampler {
  start(): void;
  /** At most an interval old; measured now when there is none yet. */
  newest(): Promise<VmHealth>;
  close(): void;
}

export interface SamplerSettings {
  intervalMs: number;
  measure(): Promise<VmHealth>;
  onSample?(health: VmHealth): void;
  log: Log;
  clock?: Clock;
}

export function createSampler(settings: SamplerSettings): Sampler {
  const { intervalMs, measure, onSample, log, clock = systemClock } = settings;
  let sample: { health: VmHealth; atMs: number } | undefined;
  let taking: Promise<VmHealth> | undefined;
  let cancel = (): void => {};
  let isOn = false;

  /** Never two at once: the CPU share is that since the measurement before. */
  const take = (): Promise<VmHealth> => {
    taking ??= measure()
      .then((health) => {
        sample = { health, atMs: clock.monotonicMs() };
        onSample?.(health);
        return health;
      })
      .finally(() => {
        taking = undefined;
      });
    return taking;
  };
  const tick = (): void => {
    take()
      .catch((error: unknown) => log.debug({ error }, "The machine could not be measured."))
      .finally(() => {
        if (isOn) cancel = clock.after(intervalMs, tick);
      });
  };

  return {
    start() {
      if (isOn) return;
      isOn = true;
      tick();
    },
    newest() {
      const isFresh = sample !== undefined && clock.monotonicMs() - sample.atMs <= intervalMs * 1.5;
      return isFresh && sample !== undefined ? Promise.resolve(sample.health) : take();
    },
    close() {
      isOn = false;
      cancel();
    },
  };
}
