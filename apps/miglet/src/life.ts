import { writePreemption } from "@mig/protocol";
import {
  endAfterJob,
  enterReady,
  exitNow,
  fail,
  forceEnd,
  lastWords,
  lonely,
  tellError,
} from "./life/endings.ts";
import { onGrantRead, takesGrants } from "./life/metadata-grant.ts";
import { obey } from "./life/obey.ts";
import {
  onDrained,
  onGivenUp,
  onNews,
  onObserved,
  onRunnerExited,
  onRunnerFailed,
} from "./life/runner-news.ts";
import { errorData, finish, go, lookForGrant, stay, watchTime } from "./life/steps.ts";
import type { Effect, Initializing, Input, Problem, ShuttingDown, State, Step, Timer } from "./life/words.ts";
import type { Refusal } from "./link/link.ts";

/**
 * The life of a MIGlet, as one pure function. Start reading here.
 *
 * initializing            The settings are read and the memory is open; the prerequisites are being checked. All
 *                         well: `vm_started`. One is missing: error.
 * waiting_for_controller  `vm_started` waits in the outbox. Its acknowledgement makes the agent ready.
 *                         With `token_source: metadata` a grant that lies there does so too, without the controller.
 * ready                   The channel is open or opening; the controller sees "ready" and sends register_runner, or a
 *                         grant is found in the instance's metadata (life/metadata-grant.ts). An agent that the controller forbids, or that stays alone for too long, ends: error.
 * registering_runner      The runner is being configured and started. It listens: idle. It failed: said as the result
 *                         of the command; after a pause ready again, for a fresh grant; the third time, error.
 * idle                    The Listener listens. From here on GitHub, not the controller, decides when a job comes.
 * job_running             The runner has a job. Nothing but force ends it early. An ephemeral runner ends with its
 *                         job: then the VM shuts down, or with `runner.reuse` is ready again.
 * draining                Somebody wants the end: drain, shutdown, a signal, a controller that wrote us off, a cloud
 *                         that takes the VM, a bound that was reached. The hand that drains stops an idle runner; a
 *                         busy one finishes its job. Never goes back.
 * error                   It cannot go on, and is telling the controller so, for a bounded time.
 * shutting_down           `vm_shutting_down`, everything delivered, `vm_terminated`, power off, exit. Reached from
 *                         every state, never left; entered early to stop by force a runner that must not go on.
 *
 * Commands are answered in every state, each with one result: life/obey.ts. What the runner does: life/runner-news.ts.
 * The ways out: life/endings.ts. How a restarted agent goes on with the runner that lived on without it:
 * life/resume.ts. Nothing here reads a clock; that time has passed is an input.
 */
export function step(state: State, input: Input): Step {
  const next = decide(state, input);
  const hasMoved = next.state.at !== state.at;
  const changes = next.effects.flatMap((effect) => (effect.do === "remember" ? [effect.change] : []));
  if (!hasMoved && changes.length === 0) return next;
  // Told first, then remembered in one write, then begun: a process that dies between finds all of it as it was and
  // does the step again, and what was told already is not told twice (memory/said.ts).
  const change = Object.assign({}, ...changes, hasMoved ? { state: next.state.at } : {});
  const effects: Effect[] = next.effects.filter(({ do: what }) => isTelling(what));
  // But from a fatal error the controller lets no VM come back: an agent that tells it must not forget that it ends.
  if (hasMoved && next.state.at === "error") effects.unshift({ do: "remember", change });
  else effects.push({ do: "remember", change });
  effects.push(...next.effects.filter(({ do: what }) => !isTelling(what) && what !== "remember"));
  effects.push(...watchIdleness(state, next.state));
  if (hasMoved) effects.push({ do: "beat" });
  return { state: next.state, effects };
}

function watchIdleness({ at: before }: State, { at: now, rules: { idleMs } }: State): Effect[] {
  if (idleMs === 0 || (before === "idle") === (now === "idle")) return [];
  return [
    now === "idle"
      ? { do: "set_timer", timer: "idle", afterMs: idleMs }
      : { do: "cancel_timer", timer: "idle" },
  ];
}

const isTelling = (what: Effect["do"]): boolean => ["emit", "receive", "finish", "refuse"].includes(what);

function decide(state: State, input: Input): Step {
  switch (input.on) {
    case "probe":
      return stay(state);
    case "checked":
      return state.at === "initializing" ? onChecked(state, input.problem) : stay(state);
    case "announced":
      return state.at === "waiting_for_controller" ? enterReady(state) : stay(state);
    case "link_up":
      // A heartbeat at once: some controllers know a VM only from its first one (reference/go-agent-wire.md §15).
      return stay({ ...state, linked: true }, { do: "beat" }, { do: "send_events" });
    case "link_down": {
      const waits = state.at === "waiting_for_controller" || state.at === "ready";
      return stay({ ...state, linked: false }, ...(waits && state.linked ? lonely(state.rules) : []));
    }
    case "refused":
      return onRefused(state, input.refusal);
    case "command":
      return obey(state, input.command);
    case "grant_read":
      return onGrantRead(state, input.grant);
    case "runner_started":
      if (state.at !== "registering_runner" || state.phase !== "working") return stay(state);
      return stay(
        { ...state, runner: input.runner },
        { do: "set_timer", timer: "listen", afterMs: state.rules.listenWithinMs },
      );
    case "runner_failed":
      return onRunnerFailed(state, input.problem, input.isRetryable);
    case "recorded":
      return stay(state, { do: "remember", change: { runner: input.record } });
    case "observed":
      return onObserved(state, input.observation);
    case "news":
      return onNews(state, input.news);
    case "runner_exited":
      return onRunnerExited(state, input.exit);
    case "runner_drained":
      if (state.at === "draining") return onDrained(state, input.outcome);
      return state.at === "registering_runner" && state.phase === "giving_up"
        ? onGivenUp(state, input.outcome)
        : stay(state);
    case "low":
      return onLow(state, input);
    case "preempted": {
      const ending = endAfterJob(state, { reason: "preempted", exitCode: 0 });
      const told: Effect = { do: "emit", type: "preemption_notice", data: writePreemption(input.notice) };
      return { ...ending, effects: [told, ...ending.effects] };
    }
    case "collected": {
      // Of one that was given up meanwhile, the result is said already.
      if (state.collecting !== input.commandId) return stay(state);
      const { collecting: id, ...rest } = state;
      return stay(rest, ...finish(id, input.outcome));
    }
    case "flushed":
      return state.at === "error" ? lastWords(state, state) : stay(state);
    case "last_words_said":
      if (state.at !== "shutting_down" || state.phase !== "last_words") return stay(state);
      return stay(
        { ...state, phase: "over" },
        ...(state.exitCode === settingsWrong ? [] : [powerOff(state.exitCode === prerequisiteMissing)]),
        { do: "exit", code: state.exitCode },
      );
    case "signal":
      return onSignal(state, input.count, input.exitCode);
    case "timer":
      return onTimer(state, input.timer);
  }
}

/** Exit codes of lives that ended before anything was begun (boot/exit-codes.ts). */
const prerequisiteMissing = 3;
/** Whoever has to correct them wants to find the machine there. */
const settingsWrong = 2;

const powerOff = (unlessRunner: boolean): Effect => ({ do: "power_off", unlessRunner });

function onChecked(state: Initializing, problem: Problem | undefined): Step {
  const { problems, ...rest } = state;
  const started: Effect[] = [{ do: "emit", type: "vm_started", data: {} }, ...problems.map(tellError)];
  if (problem !== undefined) return fail(state, problem, 3, started);
  return go(
    { ...rest, at: "waiting_for_controller" },
    ...started,
    { do: "announce" },
    ...lonely(state.rules),
    ...watchTime(state),
    ...lookForGrant(state.rules),
  );
}

function onRefused(state: State, { code, message }: Refusal): Step {
  switch (code) {
    case "incarnation_lost":
      // The VM was written off and is counted by nobody: its job may end, nothing else may begin.
      return state.at === "initializing" ? stay(state) : endAfterJob(state, { reason: code, exitCode: 0 });
    case "forbidden":
      // Seed 001: report and shut down. Not with a runner, though: one wrong rule in a proxy would end a whole fleet.
      return state.at === "waiting_for_controller" || state.at === "ready"
        ? fail(state, { code: "controller_refused", message }, 4)
        : stay(state);
    case "settings_invalid":
      return state.at === "waiting_for_controller" || state.at === "ready"
        ? fail(state, { code, message }, settingsWrong)
        : stay(state);
    case "unauthenticated":
    case "controller_refused":
      return stay(state); // The link tries again, slowly; the timer `alone` ends a wait that leads nowhere.
  }
}

/** Nothing new begins on a machine that runs out of what a job needs; what runs may still make it. */
function onLow(state: State, { resource, freeMib, neededMib }: Input & { on: "low" }): Step {
  if (state.at === "initializing") return stay(state); // The prerequisites say it better.
  const message = `The VM has ${freeMib} MiB of ${resource} left and needs ${neededMib}: it takes no new job.`;
  const ending = endAfterJob(state, { reason: `${resource}_low`, exitCode: 0 });
  return {
    ...ending,
    effects: [tellError(errorData({ code: "resources_low", message }, false)), ...ending.effects],
  };
}

/** The first signal asks, the second insists, the third does not wait for anything (go-agent-wire A14, A15). */
function onSignal(state: State, count: number, exitCode: number): Step {
  if (count >= 3) return exitNow(state, exitCode);
  if (count === 2) return forceEnd(state, { reason: "signal", exitCode });
  const ending = endAfterJob(state, { reason: "signal", exitCode: 0 });
  if (ending.state.at !== "draining") return ending;
  const force: Effect = { do: "set_timer", timer: "force", afterMs: state.rules.forceAfterMs };
  return { ...ending, effects: [...ending.effects, force] };
}

const forcedExitCode = 143;

function onTimer(state: State, timer: Timer): Step {
  switch (timer) {
    case "alone": {
      const waits = state.at === "waiting_for_controller" || state.at === "ready";
      const message = "No controller answered this agent, which has no runner, for too long.";
      return waits && !state.linked
        ? fail(state, { code: "controller_unreachable", message }, 4)
        : stay(state);
    }
    case "retry":
      return state.at === "registering_runner" && state.phase === "pausing" ? enterReady(state) : stay(state);
    case "metadata":
      return takesGrants(state) ? stay(state, ...lookForGrant(state.rules)) : stay(state);
    case "listen":
      // Given up as a drain gives up: it may have taken a job in this moment, and nobody has ordered to stop that.
      if (state.at !== "registering_runner" || state.phase !== "working") return stay(state);
      return stay({ ...state, phase: "giving_up" }, { do: "drain_runner", verdict: "unknown" });
    case "idle":
      return state.at === "idle" ? endAfterJob(state, { reason: "idle_timeout", exitCode: 0 }) : stay(state);
    case "lifetime":
      return state.at === "initializing"
        ? stay(state)
        : endAfterJob(state, { reason: "max_lifetime", exitCode: 0 });
    case "force":
      return state.at === "draining"
        ? forceEnd(state, { reason: state.reason, exitCode: forcedExitCode })
        : stay(state);
    case "overdue": {
      if (state.at !== "draining") return stay(state);
      const message = "The deadline of the drain has passed, and the job goes on.";
      return stay(state, tellError(errorData({ code: "drain_overdue", message }, false)));
    }
    case "log_level":
      return stay(state, { do: "set_log_level", level: state.rules.logLevel });
    case "drain_again":
      if (state.at !== "draining" || state.phase !== "busy" || state.isGone) return stay(state);
      return stay({ ...state, phase: "asked" }, { do: "drain_runner", verdict: "unknown" });
    case "kill":
      return isStopping(state)
        ? stay(state, { do: "kill_runner" }, { do: "set_timer", timer: "gone", afterMs: goneMs })
        : stay(state);
    case "gone":
      return isStopping(state) ? onUnstoppable(state) : stay(state);
  }
}

/** It did not end when it was killed, so nobody may be told that nothing runs here. */
function onUnstoppable(state: ShuttingDown): Step {
  const message = "The runner did not end when it was killed.";
  const told = state.owed.flatMap(({ id }) => finish(id, { success: false, message }));
  return lastWords({ ...state, owed: [] }, state, told);
}

/** After SIGKILL. A runner that is still there then cannot be helped. */
const goneMs = 10_000;

function isStopping(state: State): state is ShuttingDown {
  return state.at === "shutting_down" && state.phase === "stopping";
}
