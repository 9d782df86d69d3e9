import { monitorEventLoopDelay } from "node:perf_hooks";
import { type Log, silentLog } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { atEase, isShed, judgeStrain, type Load, retryAfterMsOf, type Strain } from "./shedding.ts";

export interface StrainWatch {
  /** Throws `overloaded`, with the time after which it may be tried again. */
  admit(load: Load): void;
}

const sampleMs = 250;
const windowMs = 1_000;
const windowsMin = 3;

const told: Record<Load, string> = {
  list: "the controller is busy with its VMs; lists come later",
  bulk: "the controller cannot store more now; keep this and send it again later",
  join: "the controller cannot take in more VMs now; join again later",
  vital: "the controller is busy",
};

/** Looks at the process four times a second. `queueAgeMs`: how long the oldest events have waited for the database. */
export function watchStrain(queueAgeMs: () => number, log: Log = silentLog): StrainWatch {
  const loopDelayMs = watchEventLoop();
  let shedding = atEase;
  let strain: Strain = { loopDelayMs: 0, queueAgeMs: 0 };
  setInterval(() => {
    strain = { loopDelayMs: loopDelayMs(), queueAgeMs: queueAgeMs() };
    const { level } = shedding;
    shedding = judgeStrain(shedding, strain);
    if (shedding.level === level) return;
    const fields = { level: shedding.level, loop_delay_ms: Math.round(strain.loopDelayMs) };
    const more = { ...fields, queue_age_ms: Math.round(strain.queueAgeMs) };
    if (shedding.level > level) log.warn(more, "the controller cannot keep up and refuses what can wait");
    else log.info(more, "the controller keeps up again and refuses less");
  }, sampleMs).unref();
  return {
    admit(load) {
      if (!isShed(load, shedding.level)) return;
      throw new MigError("overloaded", told[load], { retryAfterMs: retryAfterMsOf(strain) });
    },
  };
}

/**
 * The least of the last three seconds: one slow second is a garbage collection or somebody's large page; three in a row
 * are too much work.
 */
function watchEventLoop(): () => number {
  const histogram = monitorEventLoopDelay({ resolution: 20 });
  histogram.enable();
  const windows: number[] = [];
  setInterval(() => {
    windows.push(histogram.count > 0 ? histogram.percentile(90) / 1e6 : 0);
    if (windows.length > windowsMin) windows.shift();
    histogram.reset();
  }, windowMs).unref();
  return () => (windows.length < windowsMin ? 0 : Math.min(...windows));
}
