import { maybe } from "@mig/protocol";
import { enterReady, fail, lastWords, lonely, tellError } from "./endings.ts";
import { afterRunner, tellRegistered } from "./runner-news.ts";
import { finish, lookForGrant, settle, stay, watchTime } from "./steps.ts";
import type {
  Draining,
  Effect,
  Failed,
  Found,
  FoundRunner,
  Idle,
  JobRunning,
  Owed,
  Registering,
  Rules,
  State,
  Step,
  Waiting,
} from "./words.ts";

/**
 * The first state of a process. Usually a new life; after a crash or an upgrade of the agent, the old one goes on with
 * the runner that lived on without it. A second runner is never started beside a first one, a running job is never
 * touched, and a drain that was received stays a drain (go-agent-wire A13, A15).
 *
 * Whether the prerequisites hold is asked at the beginning of a life only: a job that fills the disk must not make its
 * restarted agent give up on it.
 */
export function begin(found: Found, rules: Rules): Step {
  const { state, effects } = firstStep(found, rules);
  return { state: { ...state, ...maybe("usedGrant", found.usedGrant) }, effects };
}

function firstStep(found: Found, rules: Rules): Step {
  const { problems, interrupted } = found;
  if (!found.resumed || found.lastState === "initializing") {
    const state: State = { ...carriedBy(rules), at: "initializing", problems };
    const answers = giveUp(interrupted, "The VM has begun a new life since.");
    return stay(state, ...answers, { do: "check_prerequisites" });
  }
  const { state, effects } = goOn(found, rules);
  const link: Effect[] = state.at === "waiting_for_controller" ? [] : [{ do: "open_link" }];
  const remember: Effect = { do: "remember", change: { state: state.at } };
  return {
    state,
    effects: [
      ...link,
      // As `step` has it: an agent that tells of its fatal error must not forget that it ends.
      ...(state.at === "error" ? [withEnding(state)] : []),
      ...problems.map(tellError),
      ...effects,
      remember,
      ...watchTime(state),
      { do: "beat" },
    ],
  };
}

function withEnding({ at, reason, exitCode }: Failed): Effect {
  return { do: "remember", change: { state: at, ending: { reason, exitCode } } };
}

const carriedBy = (rules: Rules, failedRegistrations = 0) => ({ rules, failedRegistrations, linked: false });

function goOn(found: Found, rules: Rules): Step {
  const owed = found.interrupted.flatMap(({ id, type }): Owed[] =>
    type === "drain" || type === "shutdown" ? [{ id, type }] : [],
  );
  const isOnItsWayOut = ["draining", "shutting_down", "error"].includes(found.lastState);
  const wantsEnd = found.draining || owed.length > 0 || isOnItsWayOut;
  if (found.runner !== undefined) return withRunner(found, found.runner, rules, wantsEnd, owed);
  const others = giveUp(
    found.interrupted.filter(({ id }) => owed.every((one) => one.id !== id)),
    interruptedMessage,
  );
  const none: Waiting = {
    ...carriedBy(rules, found.failedRegistrations),
    at: "waiting_for_controller",
  };
  if (wantsEnd)
    return lastWords(none, found.ending ?? resumedEnd, [...others, ...settle(owed, "no_runner", {})]);
  if (found.lastState === "waiting_for_controller")
    return stay(none, ...others, { do: "announce" }, ...lonely(rules), ...lookForGrant(rules));
  if (found.lastState === "idle" || found.lastState === "job_running") {
    const message = "The record of the runner was lost while the agent was away.";
    return afterRunner(none, { meaning: "crashed", ranJob: found.job !== undefined, message }, others);
  }
  const isCut = found.interrupted.some(({ type }) => type === "register_runner");
  const ready = isCut ? attemptCut(none) : enterReady(none);
  return { ...ready, effects: [...others, ...ready.effects] };
}

/**
 * An attempt that was cut short counts, here as at the controller, which grants no more of them than this agent may
 * make: one that counted fewer would wait for another grant as long as its VM lives.
 */
function attemptCut(none: Waiting): Step {
  const failedRegistrations = none.failedRegistrations + 1;
  if (failedRegistrations >= none.rules.registrationsMax)
    return fail(none, { code: "runner_start_failed", message: interruptedMessage }, 5);
  const { state, effects } = enterReady({ ...none, failedRegistrations });
  return stay(state, { do: "remember", change: { failedRegistrations } }, ...effects);
}

const interruptedMessage = "The agent was restarted while it registered the runner.";
const cutCollecting = "The agent was restarted while it collected diagnostics; order them again.";
const resumedEnd = { reason: "resumed_on_its_way_out", exitCode: 0 };

function withRunner(
  found: Found,
  runner: FoundRunner,
  rules: Rules,
  wantsEnd: boolean,
  owed: readonly Owed[],
): Step {
  if (wantsEnd) {
    const draining: Draining = {
      ...carriedBy(rules),
      ...(found.ending ?? resumedEnd),
      at: "draining",
      phase: "asked",
      isGone: false,
      runner: runner.identity,
      ...(found.job === undefined ? {} : { job: found.job }),
      owed,
    };
    const others = found.interrupted.filter(({ id }) => owed.every((one) => one.id !== id));
    return stay(
      draining,
      ...giveUp(others, interruptedMessage),
      { do: "drain_runner", verdict: "unknown" },
      ...(found.deadline === undefined ? [] : [{ do: "set_deadline", ...found.deadline } as const]),
    );
  }
  const state = asBefore(found, runner, rules);
  const answers = found.interrupted.flatMap(({ id, type }) => {
    if (id !== runner.commandId) return giveUp([{ id, type }], interruptedMessage);
    if (state.at === "registering_runner") return [];
    return finish(id, { success: true, result: { runner_name: runner.identity.name } });
  });
  if (state.at !== "registering_runner") {
    // The process before died between seeing that the runner listens, or works, and telling it.
    const isNew = found.lastState === "registering_runner" || found.lastState === "ready";
    return stay(state, ...(isNew ? [tellRegistered(runner.identity, runner.commandId)] : []), ...answers);
  }
  return stay(state, ...answers, { do: "set_timer", timer: "listen", afterMs: rules.listenWithinMs });
}

/** What the process before was doing with this runner. */
function asBefore(found: Found, runner: FoundRunner, rules: Rules): Registering | Idle | JobRunning {
  const common = { ...carriedBy(rules, found.failedRegistrations), runner: runner.identity };
  if (found.job !== undefined) return { ...common, at: "job_running", job: found.job };
  if (runner.isBusy) return { ...common, at: "job_running" };
  if (runner.listened) return { ...common, at: "idle" };
  const commandId = found.interrupted.find(({ id }) => id === runner.commandId)?.id;
  return {
    ...common,
    at: "registering_runner",
    phase: "working",
    ...(commandId === undefined ? {} : { commandId }),
  };
}

function giveUp(interrupted: Found["interrupted"], message: string): Effect[] {
  const why = (type: string): string => (type === "collect_diagnostics" ? cutCollecting : message);
  return interrupted.flatMap(({ id, type }) => finish(id, { success: false, message: why(type) }));
}
