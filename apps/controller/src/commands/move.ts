import { type CommandInput, isFinished, nextCommandState } from "@mig/lifecycle";
import type { JsonObject } from "@mig/protocol";
import type { CommandRow } from "../store/rows.ts";

/** Moves a command as the table says. Answers false, and changes nothing, where the input does not apply. */
export function move(
  command: CommandRow,
  input: CommandInput,
  nowMs: number,
  message?: string,
  result?: JsonObject,
): boolean {
  const next = nextCommandState(command.state, input);
  if (next === undefined) return false;
  command.state = next;
  if (input === "send") {
    command.sentAtMs = nowMs;
    command.attempt += 1;
  }
  if (input === "received" && command.acknowledgedAtMs === null) command.acknowledgedAtMs = nowMs;
  if (isFinished(next)) command.finishedAtMs = nowMs;
  if (message !== undefined) command.message = message;
  if (result !== undefined) command.result = result;
  return true;
}
