/**
 * The life of a command (DESIGN §5; reliability-security §2.2).
 *
 * pending       queued; nobody has it
 * sent          given to a channel; the agent has not said that it has it. Not acknowledged in time, or the
 *               session ended: back to pending, one attempt older
 * acknowledged  the agent has it in its journal and will answer with a result
 * succeeded, failed       the agent's result
 * rejected      the agent does not know the type, or it is not for this incarnation
 * expired       nobody took it before `expires_at`, the attempts are used up, or it was acknowledged and no result
 *               came before the deadline: then the outcome is unknown and the message says so
 * cancelled     an operator took it back while nobody had it
 * superseded    a newer command of the same class made it pointless before it was sent
 *
 * A late acknowledgement of an earlier delivery counts, also when the command is pending again: the agent has it.
 */
export const commandStates = [
  "pending",
  "sent",
  "acknowledged",
  "succeeded",
  "failed",
  "rejected",
  "expired",
  "cancelled",
  "superseded",
] as const;
export type CommandState = (typeof commandStates)[number];

export const commandInputs = [
  "send",
  "received",
  "succeed",
  "fail",
  "reject",
  "unacknowledged",
  "expire",
  "cancel",
  "supersede",
] as const;
export type CommandInput = (typeof commandInputs)[number];

/** "no" = this input does not apply here and changes nothing. */
const done = {
  send: "no",
  received: "no",
  succeed: "no",
  fail: "no",
  reject: "no",
  unacknowledged: "no",
  expire: "no",
  cancel: "no",
  supersede: "no",
} as const;

export const commandTable = {
  pending: {
    send: "sent",
    received: "acknowledged",
    succeed: "succeeded",
    fail: "failed",
    reject: "rejected",
    unacknowledged: "no",
    expire: "expired",
    cancel: "cancelled",
    supersede: "superseded",
  },
  sent: {
    send: "no",
    received: "acknowledged",
    succeed: "succeeded",
    fail: "failed",
    reject: "rejected",
    unacknowledged: "pending",
    expire: "expired",
    cancel: "no",
    supersede: "no",
  },
  acknowledged: {
    send: "no",
    received: "acknowledged",
    succeed: "succeeded",
    fail: "failed",
    reject: "rejected",
    unacknowledged: "no",
    expire: "expired",
    cancel: "no",
    supersede: "no",
  },
  succeeded: done,
  failed: done,
  rejected: done,
  expired: done,
  cancelled: done,
  superseded: done,
} as const satisfies Record<CommandState, Record<CommandInput, CommandState | "no">>;

export function nextCommandState(state: CommandState, input: CommandInput): CommandState | undefined {
  const next = commandTable[state][input];
  return next === "no" ? undefined : next;
}

/** The states in which an input applies: what a conditional UPDATE may touch. */
export function statesThatAccept(input: CommandInput): CommandState[] {
  return commandStates.filter((state) => nextCommandState(state, input) !== undefined);
}

export function isFinished(state: CommandState): boolean {
  return commandInputs.every((input) => nextCommandState(state, input) === undefined);
}

/** A newer pending command of one of these types makes an older pending one of the same type pointless. */
export const supersedingTypes: readonly string[] = ["drain", "set_log_level", "update_config"];
