import { uuid7 } from "@mig/kit";
import { isTerminal, MigError, supersedingTypes } from "@mig/lifecycle";
import { type CommandType, commandTypes, isCommandType, type JsonObject, limits } from "@mig/protocol";
import type { FlowContext } from "../context.ts";
import type { CommandRow } from "../store/rows.ts";
import { move } from "./move.ts";

/**
 * Puts a command at the end of the VM's queue. It may wait there for an agent that is offline (seed 000 R6.3).
 * A pending command of the same kind that the new one makes pointless is superseded.
 */
export interface CommandOrder {
  type: CommandType;
  parameters: JsonObject;
  by: string;
  expiresInMs?: number;
}

export function queueCommand({ unit, vm, nowMs, rules }: FlowContext, order: CommandOrder): CommandRow {
  checkParameters(order.parameters);
  const open = unit.openCommands(vm.vmId);
  if (supersedingTypes.includes(order.type)) {
    for (const older of open.filter((command) => command.type === order.type)) {
      move(older, "supersede", nowMs, `a newer ${order.type} was queued`);
    }
  }
  if (unit.openCommands(vm.vmId).length >= limits.commandsPendingPerVmMax) {
    throw new MigError(
      "conflict",
      `${limits.commandsPendingPerVmMax} commands already wait for ${vm.vmId}; cancel some, or see why it does not take them`,
    );
  }
  vm.commandSeq += 1;
  return unit.addCommand({
    id: uuid7(nowMs),
    vmId: vm.vmId,
    seq: vm.commandSeq,
    type: order.type,
    parameters: order.parameters,
    urgent: isUrgent(order),
    state: "pending",
    attempt: 0,
    // For a VM that is not there the order waits for whichever boot comes.
    incarnation: vm.life === 0 || isTerminal(vm.state) ? null : vm.incarnation,
    sessionEpoch: null,
    createdBy: order.by,
    message: null,
    result: null,
    notBeforeMs: nowMs,
    createdAtMs: nowMs,
    expiresAtMs: nowMs + (order.expiresInMs ?? rules.commandExpiryMs),
    sentAtMs: null,
    acknowledgedAtMs: null,
    finishedAtMs: null,
  });
}

/** More would be taken, and then fit in no message: it would hold up the VM's queue until it expires. */
export function checkParameters(parameters: JsonObject): void {
  const bytes = Buffer.byteLength(JSON.stringify(parameters));
  if (bytes > limits.commandParametersBytesMax)
    throw new MigError(
      "payload_too_large",
      `the parameters of a command have at most ${limits.commandParametersBytesMax} bytes as JSON; these have ${bytes}`,
    );
}

/** Only a shutdown that will not wait for the job may overtake (reliability-security C3). */
function isUrgent({ type, parameters }: CommandOrder): boolean {
  return type === "shutdown" && (parameters["force"] === true || parameters["immediate"] === true);
}

/** The type, or the error that names the known ones. */
export function commandTypeOf(text: string): CommandType {
  if (isCommandType(text)) return text;
  throw new MigError(
    "refused",
    `there is no command "${text.slice(0, 64)}"; the commands are ${commandTypes.join(", ")}`,
  );
}
