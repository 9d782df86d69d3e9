import { type CommandType, limits } from "@mig/protocol";
import type { FlowContext } from "../context.ts";
import { move } from "./move.ts";

/**
 * What time does to commands. A delivery that is not acknowledged goes back to the queue, each time later; after
 * eight deliveries, past `expires_at`, or past the time a result may take, the command ends as `expired`.
 */
const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;

/** From acknowledged to result. A drain or a shutdown waits for the running job, which may take GitHub's 5 days. */
export const resultWithinMs: Record<CommandType, number> = {
  // With a download of the runner in it.
  register_runner: 30 * MINUTE,
  drain: 6 * DAY,
  shutdown: 6 * DAY,
  update_config: 5 * MINUTE,
  set_log_level: 5 * MINUTE,
  collect_diagnostics: limits.diagnosticsWithinMs + 5 * MINUTE,
};

export function expireCommands({ unit, vm, nowMs, rules }: FlowContext): void {
  for (const command of unit.openCommands(vm.vmId)) {
    if (command.state === "acknowledged") {
      const withinMs = resultWithinMs[command.type as CommandType];
      if (nowMs - (command.acknowledgedAtMs ?? nowMs) > withinMs) {
        move(command, "expire", nowMs, "acknowledged, but no result came in time: the outcome is unknown");
      }
      continue;
    }
    if (command.state === "sent" && nowMs - (command.sentAtMs ?? nowMs) >= rules.commandAckMs) {
      returnToQueue(command, nowMs);
      if (command.attempt >= limits.commandAttemptsMax) {
        move(command, "expire", nowMs, `delivered ${command.attempt} times and never acknowledged`);
      }
    }
    if (command.expiresAtMs !== null && command.expiresAtMs <= nowMs) {
      move(command, "expire", nowMs, "nobody took it in time");
    }
  }
}

/**
 * Its session ended before it was acknowledged, or an agent polls that has not acknowledged it: what was on its way is
 * lost, and goes again at once. From the third time on as after any attempt, or an agent whose acknowledgements do not
 * arrive would use up all eight within a second.
 */
export function deliverAgain(command: Parameters<typeof move>[0], nowMs: number): void {
  returnToQueue(command, nowMs, command.attempt < 3 ? nowMs : undefined);
}

/** One attempt has failed: pending again, not before 2ⁿ seconds, at most a minute. */
export function returnToQueue(
  command: Parameters<typeof move>[0],
  nowMs: number,
  notBeforeMs?: number,
): void {
  if (!move(command, "unacknowledged", nowMs)) return;
  command.notBeforeMs = notBeforeMs ?? nowMs + Math.min(60_000, 500 * 2 ** command.attempt);
}
