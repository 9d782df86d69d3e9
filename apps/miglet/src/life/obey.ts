import type { LogLevel } from "@mig/kit";
import { type Command, type DiagnosticsOrder, type JsonObject, maybe } from "@mig/protocol";
import { endAfterJob, forceEnd, type Wish } from "./endings.ts";
import { type ConfigChange, type Deadline, type RegistrationOrder, readOrder } from "./read-order.ts";
import { carried, finish, go, stay } from "./steps.ts";
import type { Effect, Rules, State, Step } from "./words.ts";

/**
 * Every command, in every state, gets exactly one result (the predecessor read commands only in `ready`, acknowledged
 * before it acted and implemented one of five; go-agent-wire A7–A9). What takes time is `received` first and finished
 * later; what is done at once is finished at once; what is not possible now is refused, with the reason.
 */
export function obey(state: State, command: Command): Step {
  const order = readOrder(command, state.rules);
  switch (order.type) {
    case "unreadable":
      return refuse(state, command, order.why);
    case "register_runner":
      return register(state, command, order);
    case "drain":
      return within(endAfterJob(state, wishOf(command, "drain", order.verdict)), order.deadline);
    case "shutdown":
      return order.isForced
        ? forceEnd(state, wishOf(command, "shutdown"))
        : within(endAfterJob(state, wishOf(command, "shutdown")), order.deadline);
    case "set_log_level":
      return setLevel(state, command, order);
    case "update_config":
      return change(state, command, order.change);
    case "collect_diagnostics":
      return collect(state, command, order.wanted);
  }
}

/** The newest deadline counts, also when it comes while the VM drains already. */
function within(step: Step, deadline: Deadline | undefined): Step {
  if (deadline === undefined || step.state.at !== "draining") return step;
  return { ...step, effects: [...step.effects, { do: "set_deadline", ...deadline }] };
}

function setLevel(
  state: State,
  { id }: Command,
  { level, forMs }: { readonly level: LogLevel; readonly forMs?: number },
): Step {
  const set: Effect = { do: "set_log_level", level };
  if (forMs === undefined) {
    const lasting = { ...state, rules: { ...state.rules, logLevel: level } };
    const done = finish(id, { success: true, result: { level } });
    return stay(lasting, set, { do: "cancel_timer", timer: "log_level" }, ...done);
  }
  const result = { level, for_ms: forMs, back_to: state.rules.logLevel };
  const back: Effect = { do: "set_timer", timer: "log_level", afterMs: forMs };
  return stay(state, set, back, ...finish(id, { success: true, result }));
}

function wishOf(command: Command, type: "drain" | "shutdown", verdict?: Wish["verdict"]): Wish {
  return {
    reason: type === "drain" ? "drained" : "shutdown_command",
    exitCode: 0,
    by: { command, type },
    ...(verdict === undefined ? {} : { verdict }),
  };
}

function register(state: State, command: Command, order: RegistrationOrder): Step {
  switch (state.at) {
    case "initializing":
    case "waiting_for_controller":
      return refuse(state, command, "The agent is not ready yet: vm_started has not been acknowledged.");
    case "registering_runner":
      if (state.phase !== "pausing") return refuse(state, command, "A runner is being registered already.");
      return beginRegistration(state, order, command);
    case "ready":
      return beginRegistration(state, order, command);
    case "idle":
    case "job_running":
      return refuse(state, command, `The runner ${state.runner.name} is registered already.`);
    case "draining":
    case "shutting_down":
    case "error":
      return refuse(state, command, "The VM is on its way out and takes no new work.");
  }
}

/** By a command, or by a grant of metadata, of which nobody waits for a result. */
export function beginRegistration(
  state: State,
  { runner, material, pin }: RegistrationOrder,
  command?: Command,
): Step {
  const named = maybe("commandId", command?.id);
  return go(
    { ...carried(state), at: "registering_runner", phase: "working", ...named, runner },
    ...(command === undefined ? [] : [{ do: "receive", command } as const]),
    // What was told of the runner before says nothing of this one.
    { do: "remember", change: { said: undefined } },
    { do: "start_runner", ...named, runner, material, pin },
  );
}

function change(state: State, command: Command, wanted: ConfigChange): Step {
  const { logLevel, heartbeatIntervalMs } = wanted;
  const rules = { ...state.rules, ...wanted };
  const effects: Effect[] = [];
  if (logLevel !== undefined) effects.push({ do: "set_log_level", level: logLevel });
  if (heartbeatIntervalMs !== undefined)
    effects.push({ do: "set_heartbeat_interval", intervalMs: heartbeatIntervalMs });
  effects.push({ do: "remember", change: { config: wanted } });
  const result = {
    changed: Object.keys(command.parameters),
    before: describe(wanted, state.rules),
    after: describe(wanted, rules),
  };
  return stay({ ...state, rules }, ...effects, ...finish(command.id, { success: true, result }));
}

/**
 * Beside whatever else goes on, in every state but the very last moments: the VM that hangs is the one that is asked. One
 * at a time; `collected` brings the outcome.
 */
function collect(state: State, command: Command, wanted: DiagnosticsOrder): Step {
  if (state.collecting !== undefined)
    return refuse(state, command, `Diagnostics are being collected already, by command ${state.collecting}.`);
  if (state.at === "shutting_down" && state.phase !== "stopping")
    return refuse(state, command, "The VM says its last words; nothing can be brought any more.");
  return stay(
    { ...state, collecting: command.id },
    { do: "receive", command },
    { do: "collect", commandId: command.id, wanted },
  );
}

/** Under the names of the settings, in milliseconds. */
function describe(wanted: ConfigChange, rules: Rules): JsonObject {
  const names = {
    heartbeatIntervalMs: "heartbeat.interval_ms",
    logLevel: "logging.level",
    graceMs: "shutdown.grace_period_ms",
    forceAfterMs: "shutdown.force_after_ms",
  } as const satisfies Record<keyof ConfigChange, string>;
  const keys = Object.keys(wanted) as (keyof ConfigChange)[];
  return Object.fromEntries(keys.map((key) => [names[key], rules[key]]));
}

function refuse(state: State, command: Command, message: string): Step {
  return stay(state, { do: "refuse", command, message });
}
