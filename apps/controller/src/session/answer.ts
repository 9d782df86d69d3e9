import type { CommandInput } from "@mig/lifecycle";
import { MigError } from "@mig/lifecycle";
import { type CommandAnswer, isCommandType, readBoolean } from "@mig/protocol";
import { move } from "../commands/move.ts";
import { contextOf } from "../context.ts";
import { hear } from "../heartbeat/apply-beat.ts";
import { answers } from "../life.ts";
import type { CommandRow } from "../store/rows.ts";
import { withUnit } from "../store/unit.ts";
import type { Parts } from "./parts.ts";

/**
 * What an agent answers to a command moves the command, and then the VM. An answer that comes twice, or after the
 * command has ended, changes nothing and is acknowledged all the same: the agent need not send it again. The
 * answer counts whichever session carries it; only the VM must be the command's.
 */
export async function takeAnswer(
  parts: Parts,
  vmId: string,
  answer: CommandAnswer,
  beforeMig: boolean,
): Promise<CommandRow> {
  const scope = { vmIds: [vmId], commandIds: [answer.commandId] };
  return withUnit(parts.store, scope, (unit) => {
    const vm = unit.vm(vmId);
    const command = unit.command(answer.commandId);
    if (vm === undefined || command === undefined || command.vmId !== vmId) {
      throw new MigError("not_found", `${vmId} has no command ${answer.commandId.slice(0, 64)}`);
    }
    const context = contextOf(unit, vm, parts.rules, parts.log);
    hear(context);
    const input = inputOf(answer, command, beforeMig);
    const moved = move(command, input, unit.nowMs, answer.message, answer.result);
    if (moved && isCommandType(command.type)) answers[command.type](context, command, answer);
    if (moved) {
      context.log.info(
        { command_id: command.id, type: command.type, state: command.state },
        "a command was answered",
      );
    }
    return { ...command };
  });
}

function inputOf(answer: CommandAnswer, command: CommandRow, beforeMig: boolean): CommandInput {
  const stage = answer.stage ?? (beforeMig && command.type === "register_runner" ? "received" : "result");
  if (answer.success) return stage === "received" ? "received" : "succeed";
  const refused = stage === "received" || readBoolean(answer.result ?? {}, "refused") === true;
  // The words of an agent from before MIG for a command that it does not know (reference/go-agent-wire.md §5).
  const unknownToOldAgent = beforeMig && /not yet implemented/i.test(answer.message ?? "");
  return refused || unknownToOldAgent ? "reject" : "fail";
}
