/**
 * Whether the controller hears from a VM; kept apart from what the VM does (DESIGN §5).
 *
 * online       heard from within the bound
 * unreachable  silent for longer; reversible, nothing is decided yet
 * lost         silent so long that the VM is written off (longer while it runs a job)
 */
export const reachabilities = ["online", "unreachable", "lost"] as const;
export type Reachability = (typeof reachabilities)[number];

export interface SilenceBounds {
  unreachableAfterMs: number;
  lostAfterMs: number;
  /** While a job runs: the job goes on without us, and writing the VM off would kill it. */
  lostWithJobAfterMs: number;
}

export function reachabilityAfter(silentMs: number, hasJob: boolean, bounds: SilenceBounds): Reachability {
  if (silentMs >= (hasJob ? bounds.lostWithJobAfterMs : bounds.lostAfterMs)) return "lost";
  return silentMs >= bounds.unreachableAfterMs ? "unreachable" : "online";
}

/**
 * When many VMs fall silent at once, we are the likelier fault (Kubernetes stops evicting when every zone looks
 * down; reliability-security R15). With the brake on, VMs are written off at a thousandth of the fleet a second: slow enough
 * for a person to see the alarm, and still an end if they are really gone.
 */
export function isMassLoss(silentVms: number, liveVms: number): boolean {
  return silentVms >= 20 && silentVms > 0.2 * liveVms;
}

export function brakedWriteOffs(liveVms: number, elapsedMs: number): number {
  return (0.001 * liveVms * elapsedMs) / 1000;
}
