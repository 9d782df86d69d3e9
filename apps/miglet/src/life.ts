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
import { obey } from "./life/obey.ts";
import {
  onDrained,
  onObserved,
  onRunnerExited,
  onRunnerFailed,
  registrationFailed,
} from "./life/runner-news.ts";
import { go, stay } from "./life/steps.ts";
import type { Effect, Initializing, Input, Problem, State, Step, Timer } from "./life/words.ts";
import type { Refusal } from "./link/link.ts";

/**
 * The life of a MIGlet, as one pure function. Start reading here.
 *
 * initializing            The settings are read and the memory is open; the prerequisites are being checked. All
 *                         well: `vm_started`. One is missing: error.
 * waiting_for_controller  `vm_started` waits in the outbox. Its acknowledgement makes the agent ready.
 * ready                   The channel is open or opening; the controller sees "ready" and sends register_runner. An
 *                         agent that the controller forbids, or that stays alone for too long, ends: error.
 * registering_runner      The runner is being configured and started. It listens: idle. It failed: said as the result
 *                         of the command; after a pause ready again, for a fresh grant; the third time, error.
 * idle                    The Listener listens. From here on GitHub, not the controller, decides when a job comes.
 * job_running             The runner has a job. Nothing but force ends it early. An ephemeral runner ends with its
 *                         job: then the VM shuts down, or with `runner.reuse` is ready again.
 * draining                Somebody wants the end: drain, shutdown, a signal, a controller that wrote us off. The hand
 *                         that drains stops an idle runner; a busy one finishes its job. Never goes back.
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
  effects.push({ do: "remember", change });
  effects.push(...next.effects.filter(({ do: what }) => !isTelling(what) && what !== "remember"));
  if (hasMoved) effects.push({ do: "beat" });
  return { state: next.state, effects };
}

const isTelling = (what: Effect["do"]): boolean => ["emit", "receive", "finish", "refuse"].includes(what);

function decide(state: State, input: Input): Step {
  switch (input.on) {
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
    case "runner_exited":
      return onRunnerExited(state, input.exit);
    case "runner_drained":
      return state.at === "draining" ? onDrained(state, input.outcome) : stay(state);
    case "flushed":
      return state.at === "error" ? lastWords(state, state) : stay(state);
    case "last_words_said":
      if (state.at !== "shutting_down" || state.phase !== "last_words") return stay(state);
      return stay(
        { ...state, phase: "over" },
        { do: "power_off", unlessRunner: state.exitCode === prerequisiteMissing },
        { do: "exit", code: state.exitCode },
      );
    case "signal":
      return onSignal(state, input.count, input.exitCode);
    case "timer":
      return onTimer(state, input.timer);
  }
}

/** The exit code of a life that ended before anything was begun (boot/exit-codes.ts). */
const prerequisiteMissing = 3;

function onChecked(state: Initializing, problem: Problem | undefined): Step {
  const { problems, ...rest } = state;
  const started: Effect[] = [{ do: "emit", type: "vm_started", data: {} }, ...problems.map(tellError)];
  if (problem !== undefined) return fail(state, problem, 3, started);
  return go(
    { ...rest, at: "waiting_for_controller" },
    ...started,
    { do: "announce" },
    ...lonely(state.rules),
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
    case "unauthenticated":
    case "controller_refused":
      return stay(state); // The link tries again, slowly; the timer `alone` ends a wait that leads nowhere.
  }
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
    case "listen":
      if (state.at !== "registering_runner" || state.phase !== "working") return stay(state);
      return stay(
        { ...state, phase: "giving_up" },
        { do: "interrupt_runner" },
        { do: "set_timer", timer: "kill", afterMs: state.rules.graceMs },
      );
    case "force":
      return state.at === "draining"
        ? forceEnd(state, { reason: state.reason, exitCode: forcedExitCode })
        : stay(state);
    case "drain_again":
      if (state.at !== "draining" || state.phase !== "busy" || state.isGone) return stay(state);
      return stay({ ...state, phase: "asked" }, { do: "drain_runner", verdict: "unknown" });
    case "kill":
      return isStopping(state)
        ? stay(state, { do: "kill_runner" }, { do: "set_timer", timer: "gone", afterMs: goneMs })
        : stay(state);
    case "gone":
      if (state.at === "registering_runner" && state.phase === "giving_up") {
        const message = "The runner did not listen in time, and did not end when it was killed.";
        return registrationFailed(state, { code: "runner_start_failed", message }, false);
      }
      return isStopping(state) && state.at === "shutting_down" ? lastWords(state, state) : stay(state);
  }
}

/** After SIGKILL. A runner that is still there then cannot be helped. */
const goneMs = 10_000;

function isStopping(state: State): boolean {
  return (
    (state.at === "shutting_down" && state.phase === "stopping") ||
    (state.at === "registering_runner" && state.phase === "giving_up")
  );
}
