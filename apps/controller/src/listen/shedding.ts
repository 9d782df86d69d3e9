/**
 * What is refused when the controller cannot keep up (reliability-security §2.7), in this order:
 *
 * list   what operators read
 * bulk   events and heartbeats of VMs with an identity that come one call at a time: their agents keep them and send
 *        them again. Streams are not refused anything; their reader waits for the database by itself
 * join   new VMs
 * vital  never: results of commands, commands, grants, tokens, orders. They end work that is under way
 */
export type Load = "list" | "bulk" | "join" | "vital";

export interface Strain {
  /** How late the event loop is, second after second. */
  readonly loopDelayMs: number;
  /** For how long the oldest events have waited for the database. */
  readonly queueAgeMs: number;
}

/** How many of the loads, in their order, are refused. */
export type Level = 0 | 1 | 2 | 3;

export interface Shedding {
  readonly level: Level;
  /** Samples in a row that would do with less. */
  readonly calm: number;
}

export const atEase: Shedding = { level: 0, calm: 0 };

const order: readonly Load[] = ["list", "bulk", "join"];
/** Each level begins beyond these. */
const bounds: readonly Strain[] = [
  { loopDelayMs: 100, queueAgeMs: 1_000 },
  { loopDelayMs: 250, queueAgeMs: 2_000 },
  { loopDelayMs: 1_000, queueAgeMs: 10_000 },
];
/** And ends below half of them, for so many samples: what comes back all at once would bring it on again. */
const easeFactor = 0.5;
export const calmSamplesMin = 12;
const retryMsMin = 1_000;
const retryMsMax = 30_000;
/** A loop that is late by this much has so much more work than time. */
const retryPerLoopDelay = 10;

/** One sample further. It rises at once as far as it must, and falls one level after the other. */
export function judgeStrain({ level, calm }: Shedding, strain: Strain): Shedding {
  const wanted = levelOf(strain, 1);
  if (wanted > level) return { level: wanted, calm: 0 };
  if (levelOf(strain, easeFactor) >= level) return { level, calm: 0 };
  return calm + 1 < calmSamplesMin ? { level, calm: calm + 1 } : { level: (level - 1) as Level, calm: 0 };
}

export function isShed(load: Load, level: Level): boolean {
  const place = order.indexOf(load);
  return place >= 0 && place < level;
}

/** Whole seconds, as the header has them: the longer something waits already, the later the next one comes. */
export function retryAfterMsOf({ loopDelayMs, queueAgeMs }: Strain): number {
  const neededMs = Math.max(loopDelayMs * retryPerLoopDelay, queueAgeMs);
  return Math.min(retryMsMax, Math.max(retryMsMin, Math.ceil(neededMs / 1_000) * 1_000));
}

function levelOf(strain: Strain, factor: number): Level {
  const beyond = bounds.filter(
    ({ loopDelayMs, queueAgeMs }) =>
      strain.loopDelayMs > loopDelayMs * factor || strain.queueAgeMs > queueAgeMs * factor,
  );
  return beyond.length as Level;
}
