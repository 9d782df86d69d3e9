import type { Command, JsonObject } from "@mig/protocol";
import type { Verdict } from "../shutdown/drain.ts";
import { carried, errorData, finish, go, lookForGrant, settle, stay, type Was } from "./steps.ts";
import type {
  Always,
  Draining,
  Effect,
  Idle,
  JobRunning,
  Owed,
  Problem,
  Registering,
  Rules,
  State,
  Step,
} from "./words.ts";

/** The ways out of a life, and the one way back to its middle: `enterReady`. */
export interface Wish {
  readonly reason: string;
  readonly exitCode: number;
  /** What GitHub said about the runner, when a drain brings it. */
  readonly verdict?: Verdict;
  /** The command that wants it and gets a result when nothing runs any more. */
  readonly by?: { readonly command: Command; readonly type: Owed["type"] };
}

export function enterReady(state: State): Step {
  const alone = state.linked ? [] : lonely(state.rules);
  return go({ ...carried(state), at: "ready" }, { do: "open_link" }, ...alone, ...lookForGrant(state.rules));
}

/** An agent without a runner and without a controller is of no use to anybody, and costs. */
export function lonely({ aloneMs }: Rules): Effect[] {
  return aloneMs === 0 ? [] : [{ do: "set_timer", timer: "alone", afterMs: aloneMs }];
}

/** No new job from now on; a running one finishes; then the end. Asked twice, it is still one end. */
export function endAfterJob(state: State, wish: Wish): Step {
  switch (state.at) {
    case "initializing":
    case "waiting_for_controller":
    case "ready":
    case "error":
      return lastWords(state, wish, settle(owedBy(wish), "no_runner", {}));
    case "registering_runner":
      if (state.phase === "pausing") return lastWords(state, wish, settle(owedBy(wish), "no_runner", {}));
      return drain(state, wish);
    case "idle":
    case "job_running":
      return drain(state, wish);
    case "draining":
      return stay({ ...state, owed: [...state.owed, ...owedBy(wish)] }, ...receive(wish));
    case "shutting_down":
      if (state.phase !== "stopping") return stay(state, ...settle(owedBy(wish), "no_runner", {}));
      return stay({ ...state, owed: [...state.owed, ...owedBy(wish)] }, ...receive(wish));
  }
}

function drain(state: Registering | Idle | JobRunning, wish: Wish): Step {
  const { reason, exitCode, verdict = "unknown" } = wish;
  const draining: Draining = {
    ...carried(state),
    at: "draining",
    phase: "asked",
    isGone: false,
    runner: state.runner,
    ...(state.at === "job_running" && state.job !== undefined ? { job: state.job } : {}),
    reason,
    exitCode,
    owed: owedBy(wish),
  };
  return go(
    draining,
    ...receive(wish),
    { do: "remember", change: { draining: true, ending: { reason, exitCode } } },
    ...breakOff(state),
    { do: "drain_runner", verdict },
  );
}

/** Now, whatever runs: the runner is interrupted, which cancels its job, and killed if it does not end. */
export function forceEnd(state: State, wish: Wish): Step {
  switch (state.at) {
    case "initializing":
    case "waiting_for_controller":
    case "ready":
    case "error":
      return lastWords(state, wish, settle(owedBy(wish), "no_runner", {}));
    case "registering_runner":
      if (state.phase === "pausing") return lastWords(state, wish, settle(owedBy(wish), "no_runner", {}));
      return stop(state, wish);
    case "idle":
    case "job_running":
    case "draining":
      return stop(state, wish);
    case "shutting_down":
      if (state.phase !== "stopping") return endAfterJob(state, wish);
      return stay(
        {
          ...state,
          exitCode: Math.max(state.exitCode, wish.exitCode),
          owed: [...state.owed, ...owedBy(wish)],
        },
        ...receive(wish),
        { do: "set_timer", timer: "kill", afterMs: 0 },
      );
  }
}

function stop(state: Registering | Idle | JobRunning | Draining, wish: Wish): Step {
  const { reason, exitCode } = wish;
  return go(
    {
      ...carried(state),
      at: "shutting_down",
      phase: "stopping",
      ...(state.runner === undefined ? {} : { runner: state.runner }),
      ...("job" in state && state.job !== undefined ? { job: state.job } : {}),
      reason,
      exitCode,
      owed: [...(state.at === "draining" ? state.owed : []), ...owedBy(wish)],
    },
    ...receive(wish),
    { do: "remember", change: { ending: { reason, exitCode } } },
    ...breakOff(state),
    { do: "interrupt_runner" },
    { do: "set_timer", timer: "kill", afterMs: state.rules.graceMs },
  );
}

/** The third signal: no runner, no word, no wait. */
export function exitNow(state: State, exitCode: number): Step {
  const owed = state.at === "draining" || state.at === "shutting_down" ? state.owed : [];
  const message = "The agent was stopped by force.";
  return go(
    { ...carriedOut(state), at: "shutting_down", phase: "over", reason: "signal", exitCode, owed: [] },
    ...breakOff(state),
    ...stopCollecting(state),
    ...owed.flatMap(({ id }) => finish(id, { success: false, message })),
    { do: "kill_runner" },
    { do: "exit", code: exitCode },
  );
}

/** It cannot go on. `effects` come before the event that says so; a crash brings its own event. */
export function fail(
  state: State,
  problem: Problem,
  exitCode: number,
  effects: readonly Effect[] = [],
  event: Effect = { do: "emit", type: "error", data: errorData(problem, true) },
): Step {
  const ending = { reason: problem.code, exitCode };
  return go(
    { ...carried(state), at: "error", ...ending },
    ...effects,
    event,
    { do: "remember", change: { ending } },
    { do: "flush" },
  );
}

/** Nothing runs here any more. */
export function lastWords(
  state: State,
  { reason, exitCode }: { readonly reason: string; readonly exitCode: number },
  effects: readonly Effect[] = [],
): Step {
  const owed =
    state.at === "shutting_down"
      ? settle(state.owed, wasBusy(state.job !== undefined), { forced: true })
      : [];
  return go(
    { ...carriedOut(state), at: "shutting_down", phase: "last_words", reason, exitCode, owed: [] },
    ...owed,
    ...stopCollecting(state),
    ...effects,
    { do: "remember", change: { runner: undefined, job: undefined, ending: { reason, exitCode } } },
    { do: "last_words", reason, exitCode },
  );
}

const wasBusy = (hadJob: boolean): Was => (hadJob ? "busy" : "idle");

export function drainIsOver(state: Draining, was: Was, proof: JsonObject, exitCode = state.exitCode): Step {
  return lastWords(state, { reason: state.reason, exitCode }, settle(state.owed, was, proof));
}

export function tellError(data: JsonObject): Effect {
  return { do: "emit", type: "error", data: { category: "infrastructure", fatal: false, ...data } };
}

function owedBy({ by }: Wish): Owed[] {
  return by === undefined ? [] : [{ id: by.command.id, type: by.type }];
}

function receive({ by }: Wish): Effect[] {
  return by === undefined ? [] : [{ do: "receive", command: by.command }];
}

/** Nothing is collected after the last words: what is under way gets its one result before them. */
function stopCollecting({ collecting }: State): Effect[] {
  if (collecting === undefined) return [];
  const message = "The VM came to its end before the bundle was brought.";
  return [{ do: "stop_collecting" }, ...finish(collecting, { success: false, message })];
}

function carriedOut(state: State): Always {
  const { collecting: _ended, ...rest } = carried(state);
  return rest;
}

/** A registration that is under way is given up; its command must still get its one result. */
function breakOff(state: State): Effect[] {
  if (state.at !== "registering_runner") return [];
  const message = "The VM is on its way out; the registration was given up.";
  return finish(state.commandId, { success: false, message });
}
