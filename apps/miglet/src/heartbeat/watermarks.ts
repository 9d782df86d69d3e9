import type { VmHealth } from "@mig/protocol";

export interface Marks {
  /** 0 = not watched. */
  readonly diskFreeMib: number;
  readonly memoryAvailableMib: number;
}

export type Resource = "disk" | "memory";

export interface Low {
  readonly resource: Resource;
  readonly freeMib: number;
  readonly neededMib: number;
}

/** How many samples in a row each resource has been below its mark; said once, at the third. */
export type MarkState = Readonly<Record<Resource, number>>;

export const noMarks: MarkState = { disk: 0, memory: 0 };

/** One sample may be a moment between two files; three of them in a row are a machine that runs out. */
const samplesUntilLow = 3;

/** Pure. Above the mark the count begins again, so a machine that recovers and runs out again is told again. */
export function judgeResources(
  before: MarkState,
  health: VmHealth,
  marks: Marks,
): { state: MarkState; lows: readonly Low[] } {
  const free: Readonly<Record<Resource, number | undefined>> = {
    // A disk of no size could not be read.
    disk: health.diskTotalBytes > 0 ? health.diskTotalBytes - health.diskUsedBytes : undefined,
    memory: health.memoryTotalBytes > 0 ? health.memoryTotalBytes - health.memoryUsedBytes : undefined,
  };
  const needed: Readonly<Record<Resource, number>> = {
    disk: marks.diskFreeMib,
    memory: marks.memoryAvailableMib,
  };
  const state = { ...before };
  const lows: Low[] = [];
  for (const resource of ["disk", "memory"] as const) {
    const bytes = free[resource];
    if (bytes === undefined) continue;
    const freeMib = Math.floor(bytes / (1024 * 1024));
    state[resource] = freeMib < needed[resource] ? before[resource] + 1 : 0;
    if (state[resource] === samplesUntilLow) lows.push({ resource, freeMib, neededMib: needed[resource] });
  }
  return { state, lows };
}
