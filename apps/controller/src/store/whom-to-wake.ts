import type { CommandRow, VmRow } from "./rows.ts";

/** A row as it will be written, and as it was loaded; undefined: it is new. */
export interface Change<R> {
  readonly now: R;
  readonly before: R | undefined;
}

/**
 * Whose session should look. `own`: a command can be sent that could not be before, or the one in the way has moved on.
 * `others`, the other replicas, also hear of a VM that has a newer session here: theirs is over and finds out by
 * looking.
 */
export function whomToWake(
  commands: readonly Change<CommandRow>[],
  vms: readonly Change<VmRow>[],
  nowMs: number,
): { own: string[]; others: string[] } {
  const waiting = new Set(
    commands
      .filter(({ now }) => now.state === "pending" && now.notBeforeMs <= nowMs)
      .map(({ now }) => now.vmId),
  );
  const own = new Set<string>();
  for (const { now, before } of commands) {
    const isNews =
      now.state === "pending"
        ? before?.state !== "pending" || before.notBeforeMs !== now.notBeforeMs
        : before?.state !== now.state && now.state !== "sent";
    if (isNews && waiting.has(now.vmId)) own.add(now.vmId);
  }
  const moved = vms.filter(
    ({ now, before }) => before !== undefined && before.sessionEpoch !== now.sessionEpoch,
  );
  return { own: [...own], others: [...new Set([...own, ...moved.map(({ now }) => now.vmId)])] };
}
