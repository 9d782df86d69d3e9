import type { CommandRow } from "../store/rows.ts";

/**
 * The command to send now: the oldest pending one, an urgent one before the others, and none while another is in
 * flight. A command that waits for its next attempt holds back those behind it, or they would overtake it.
 */
export function pickNext(open: readonly CommandRow[], nowMs: number): CommandRow | undefined {
  if (open.some((command) => command.state === "sent")) return undefined;
  const pending = open
    .filter(
      (command) =>
        command.state === "pending" && (command.expiresAtMs === null || command.expiresAtMs > nowMs),
    )
    .sort((a, b) => Number(b.urgent) - Number(a.urgent) || a.seq - b.seq);
  const next = pending[0];
  return next === undefined || next.notBeforeMs > nowMs ? undefined : next;
}
