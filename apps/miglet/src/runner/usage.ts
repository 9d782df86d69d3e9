import { type JobUsage, maybe } from "@mig/protocol";
import type { JobEvidence } from "./evidence.ts";
import { findListenerOf } from "./runner-tree.ts";
import { type RunnerScope, readScopeUsage } from "./scope.ts";
import { createTreeMeter } from "./tree-usage.ts";

/** What the job uses: of the runner's own cgroup where it has one, else of its processes as they are seen. */
export interface UsageMeter {
  /** With every look: takes figures when it is time to, and answers with them. */
  look(about: {
    leaderPid: number;
    scope: RunnerScope | undefined;
    evidence: JobEvidence;
    nowMs: number;
  }): Promise<JobUsage | undefined>;
}

/** Beyond so many processes on the machine their tree is not walked: it would cost more than it is worth. */
const processesMax = 4_000;

export function createUsageMeter(everyMs: number): UsageMeter {
  const tree = createTreeMeter(processesMax);
  let before: JobUsage | undefined;
  let ofScope: JobUsage | undefined;
  let hasBegun = false;
  let sampledAtMs = Number.NEGATIVE_INFINITY;

  /** The runner is there and has no job yet: what it used so far is not the job's. */
  const begin = async (leaderPid: number, scope: RunnerScope | undefined): Promise<void> => {
    hasBegun = true;
    if (scope !== undefined) before = await readScopeUsage(scope);
    const listenerPid = await findListenerOf(leaderPid);
    if (listenerPid !== undefined) await tree.begin(listenerPid);
  };

  const sample = async (leaderPid: number, scope: RunnerScope | undefined): Promise<JobUsage | undefined> => {
    if (scope !== undefined) ofScope = (await readScopeUsage(scope)) ?? ofScope;
    const isWhole = ofScope?.peakMemoryBytes !== undefined && ofScope.diskWrittenBytes !== undefined;
    if (!isWhole) {
      const listenerPid = await findListenerOf(leaderPid);
      if (listenerPid !== undefined) await tree.sample(listenerPid);
    }
    return ofScope === undefined ? tree.usage() : { ...tree.usage(), ...less(ofScope, before) };
  };

  return {
    async look({ leaderPid, scope, evidence, nowMs }) {
      const { phase, hasListened, goneSinceMs, sawWorker } = evidence;
      if (hasListened && phase === "waiting" && !hasBegun) await begin(leaderPid, scope);
      if (phase !== "assigned" && phase !== "started") return undefined;
      // A Worker that has just gone is in the figures of its Listener now, and soon nowhere. Those of a scope are cheap.
      const isEnding = goneSinceMs !== undefined && sawWorker;
      if (scope === undefined && !isEnding && nowMs - sampledAtMs < everyMs) return undefined;
      sampledAtMs = nowMs;
      return sample(leaderPid, scope);
    },
  };
}

/** The peak stays that of the runner's whole life; before its job a Listener uses little. */
function less(now: JobUsage, before: JobUsage | undefined): JobUsage {
  const { cpuSeconds, diskWrittenBytes } = now;
  return {
    ...now,
    ...maybe("cpuSeconds", cpuSeconds === undefined ? undefined : cpuSeconds - (before?.cpuSeconds ?? 0)),
    ...maybe(
      "diskWrittenBytes",
      diskWrittenBytes === undefined ? undefined : diskWrittenBytes - (before?.diskWrittenBytes ?? 0),
    ),
  };
}
