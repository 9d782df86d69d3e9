import type { ErrorCode } from "@mig/lifecycle";
import {
  type JobData,
  type JsonObject,
  maybe,
  writeCompleted,
  writeCrashed,
  writeJob,
  writeRegistered,
} from "@mig/protocol";
import type { JobObservation } from "../runner/evidence.ts";
import type { RunnerExit } from "../runner/exit.ts";
import type { RunnerNews, Trouble } from "../runner/news.ts";
import type { DrainOutcome } from "../shutdown/drain.ts";
import { drainIsOver, endAfterJob, enterReady, fail, lastWords, tellError } from "./endings.ts";
import { carried, errorData, finish, go, stay } from "./steps.ts";
import type { Draining, Effect, Problem, Registering, RunnerIdentity, State, Step } from "./words.ts";

/** What happens when the runner starts, works, fails and ends. */
export function onRunnerFailed(state: State, problem: Problem, isRetryable: boolean): Step {
  if (state.at === "registering_runner" && state.phase !== "pausing")
    return registrationFailed(state, problem, isRetryable);
  if (state.at === "draining") return stay({ ...state, isGone: true });
  return state.at === "shutting_down" && state.phase === "stopping" ? lastWords(state, state) : stay(state);
}

/** Each attempt gets a fresh grant: an expired or used one is a reason to fail, and never a reason to try it again. */
export function registrationFailed(state: Registering, problem: Problem, isRetryable: boolean): Step {
  const { rules } = state;
  const attempt = state.failedRegistrations + 1;
  const told: Effect[] = [
    { do: "cancel_timer", timer: "listen" },
    { do: "remember", change: { runner: undefined, failedRegistrations: attempt } },
    ...finish(state.commandId, {
      success: false,
      message: problem.message,
      result: { code: problem.code, attempt },
    }),
  ];
  if (!isRetryable || attempt >= rules.registrationsMax) return fail(state, problem, 5, told);
  const afterMs = Math.min(rules.retryCapMs, rules.retryFirstMs * 2 ** (attempt - 1));
  const { commandId: _answered, ...rest } = state;
  return stay(
    { ...rest, phase: "pausing", failedRegistrations: attempt },
    ...told,
    tellError(errorData(problem, false)),
    { do: "set_timer", timer: "retry", afterMs },
  );
}

/** How far its start is, what gives it trouble, and a job that was announced and does not come. */
export function onNews(state: State, news: RunnerNews): Step {
  switch (news.kind) {
    case "stage": {
      const isStarting = state.at === "registering_runner" && state.phase === "working";
      if (!isStarting || news.withinMs === undefined) return stay(state);
      return stay(state, { do: "set_timer", timer: "listen", afterMs: news.withinMs });
    }
    case "trouble":
      return stay(state, tellError(errorData({ code: codeOf[news.what], message: news.message }, false)));
    case "job_stalled": {
      const seconds = Math.round(news.forMs / 1000);
      const message = `The runner got a job message ${seconds} s ago and no job has begun.`;
      const told = tellError(errorData({ code: "job_stalled", message }, false));
      // Whether the job is a ghost only GitHub knows: the drain asks, and stays away from what may be a job.
      const ending = endAfterJob(state, { reason: "job_stalled", exitCode: 0 });
      return { ...ending, effects: [told, ...ending.effects] };
    }
  }
}

const codeOf = {
  session_conflict: "runner_session_conflict",
  clock_skew: "clock_skewed",
  connect_error: "github_unreachable",
  registration_deleted: "runner_registration_deleted",
  update_started: "runner_updating",
} as const satisfies Record<Trouble, ErrorCode>;

export function onObserved(state: State, observation: JobObservation): Step {
  switch (observation.kind) {
    case "listening":
      return state.at === "registering_runner" && state.phase === "working"
        ? registered(state, "idle")
        : stay(state);
    case "job_assigned":
      if (state.at === "idle") return go({ ...state, at: "job_running" });
      // The line that says "listening" was missed; that a job came is proof enough.
      return state.at === "registering_runner" && state.phase !== "pausing"
        ? registered(state, "job_running")
        : stay(state);
    case "job_started":
    case "job_identified":
      return onJobStarted(state, observation.job);
    case "job_finishing":
      return stay(state);
    case "job_completed":
      return onJobCompleted(state, observation);
  }
}

/** Told once, whoever tells it: a process that died before it could leaves it to the next one (memory/said.ts). */
export function tellRegistered(runner: RunnerIdentity, commandId: string | undefined): Effect {
  const data = writeRegistered({
    labels: [...runner.labels],
    runnerName: runner.name,
    ...maybe("runnerId", runner.id),
    ...maybe("runnerUrl", runner.runnerUrl),
    ...maybe("runnerGroup", runner.runnerGroup),
    ...maybe("commandId", commandId),
  });
  return { do: "emit", type: "runner_registered", data };
}

function registered(state: Registering, at: "idle" | "job_running"): Step {
  const { runner, commandId } = state;
  const result = { runner_name: runner.name, ...maybe("runner_id", runner.id) };
  return go(
    // What failed before it does not count against the next one, where a VM registers again after its job.
    { ...carried(state), failedRegistrations: 0, at, runner },
    { do: "cancel_timer", timer: "listen" },
    { do: "remember", change: { failedRegistrations: 0 } },
    tellRegistered(runner, commandId),
    ...finish(commandId, { success: true, result }),
  );
}

/** The same job is told again, with its ids, when the hook came later than the line of output. */
function onJobStarted(state: State, job: JobData): Step {
  const told: Effect[] = [
    { do: "emit", type: "job_started", data: writeJob({ ...job, status: "running" }) },
    { do: "remember", change: { job } },
  ];
  switch (state.at) {
    case "registering_runner": {
      if (state.phase === "pausing") return stay(state);
      const { state: working, effects } = registered(state, "job_running");
      return go({ ...carried(working), at: "job_running", runner: state.runner, job }, ...effects, ...told);
    }
    case "idle":
      return go({ ...state, at: "job_running", job }, ...told);
    case "job_running":
    case "draining":
      return stay({ ...state, job }, ...told, { do: "beat" });
    case "shutting_down":
      return state.phase === "stopping" ? stay({ ...state, job }, ...told) : stay(state);
    case "initializing":
    case "waiting_for_controller":
    case "ready":
    case "error":
      return stay(state);
  }
}

function onJobCompleted(
  state: State,
  { job, result, source, confidence, ...more }: JobObservation & { kind: "job_completed" },
): Step {
  const data: JsonObject = {
    ...writeCompleted({
      ...job,
      status: "completed",
      result,
      ...maybe("durationMs", more.durationMs),
      ...maybe("exitCode", more.exitCode),
      ...maybe("usage", more.usage),
    }),
    evidence: {
      source,
      confidence,
      ...maybe("contradictions", more.contradictions as JsonObject | undefined),
    },
  };
  const told: Effect[] = [
    { do: "emit", type: "job_completed", data },
    { do: "remember", change: { job: undefined } },
  ];
  switch (state.at) {
    case "idle":
    case "job_running":
      return go({ ...carried(state), at: "idle", runner: state.runner }, ...told);
    case "draining":
      return stay(withoutJob(state), ...told, { do: "beat" });
    case "shutting_down":
      return state.phase === "stopping" ? stay(withoutJob(state), ...told) : stay(state);
    case "registering_runner":
    case "initializing":
    case "waiting_for_controller":
    case "ready":
    case "error":
      return stay(state);
  }
}

function withoutJob<S extends State & { job?: JobData }>(state: S): S {
  const { job: _over, ...rest } = state;
  return rest as S;
}

export function onRunnerExited(state: State, exit: RunnerExit): Step {
  const ended: Effect[] = [
    ...closeJob(state),
    { do: "remember", change: { runner: undefined, job: undefined } },
  ];
  switch (state.at) {
    case "registering_runner": {
      if (state.phase === "pausing") return stay(state);
      if (exit.ranJob)
        return afterRunner(state, exit, [...registered(state, "job_running").effects, ...ended]);
      const isDeprecated = exit.meaning === "version_deprecated";
      if (isDeprecated)
        return deprecated(state, exit, finish(state.commandId, { success: false, message: exit.message }));
      return registrationFailed(state, { code: "runner_start_failed", message: exit.message }, true);
    }
    case "idle":
    case "job_running":
      return afterRunner(state, exit, ended);
    case "draining": {
      const crash = hasCrashed(exit) ? [crashEvent(exit)] : [];
      const exitCode = hasCrashed(exit) ? 6 : state.exitCode;
      const gone: Draining = { ...withoutJob(state), isGone: true, exitCode };
      // The hand that drains is still at work: it knows what was proved, and will say so in a moment.
      if (state.phase === "asked") return stay(gone, ...ended, ...crash);
      const over = drainIsOver(gone, "busy", { exit: exit.meaning, ...maybe("exit_code", exit.exitCode) });
      return { ...over, effects: [...ended, ...crash, ...over.effects] };
    }
    case "shutting_down":
      return state.phase === "stopping" ? lastWords(state, state, ended) : stay(state, ...ended);
    case "initializing":
    case "waiting_for_controller":
    case "ready":
    case "error":
      return stay(state);
  }
}

/** An idle runner, or one with a job, is gone and nobody here asked for it. */
export function afterRunner(state: State, exit: RunnerExit, ended: readonly Effect[]): Step {
  switch (exit.meaning) {
    case "done": {
      const ready = enterReady({ ...carried(state), at: "ready" });
      if (state.rules.reuse) return { ...ready, effects: [...ended, ...ready.effects] };
      return lastWords(state, { reason: "runner_done", exitCode: 0 }, ended);
    }
    case "removed":
      return lastWords(state, { reason: "runner_removed", exitCode: 0 }, ended);
    case "stopped":
      return lastWords(state, { reason: "runner_stopped", exitCode: 0 }, ended);
    case "version_deprecated":
      return deprecated(state, exit, ended);
    case "relaunch":
    case "crashed":
    case "session_conflict":
    case "terminated_error":
      return fail(state, { code: "runner_crashed", message: exit.message }, 6, ended, crashEvent(exit));
  }
}

function deprecated(state: State, exit: RunnerExit, effects: readonly Effect[]): Step {
  return fail(state, { code: "runner_version_deprecated", message: exit.message }, 7, effects);
}

const hasCrashed = ({ meaning }: RunnerExit): boolean =>
  meaning !== "done" && meaning !== "removed" && meaning !== "stopped";

function crashEvent({ message, exitCode, signal }: RunnerExit): Effect {
  const data = writeCrashed({ reason: message, ...maybe("exitCode", exitCode), ...maybe("signal", signal) });
  return { do: "emit", type: "runner_crashed", data };
}

/** A job that was told to have started is told to have ended, even when nobody knows how. */
function closeJob(state: State): Effect[] {
  const job = "job" in state ? state.job : undefined;
  if (job === undefined) return [];
  const data = writeCompleted({ ...job, status: "completed", result: "unknown" });
  return [{ do: "emit", type: "job_completed", data }];
}

export function onDrained(state: Draining, outcome: DrainOutcome): Step {
  if (outcome.kind === "drained") return drainIsOver(state, outcome.was, outcome.proof);
  if (state.isGone) return drainIsOver(state, "busy", { exit: "ended_meanwhile" });
  return stay({ ...state, phase: "busy" }, { do: "set_timer", timer: "drain_again", afterMs: drainAgainMs });
}

/** It did not listen in time. One that is found busy after all is left alone: its job will be told in a moment. */
export function onGivenUp(state: Registering, outcome: DrainOutcome): Step {
  if (outcome.kind === "busy")
    return stay(
      { ...state, phase: "working" },
      { do: "set_timer", timer: "listen", afterMs: state.rules.listenWithinMs },
    );
  const message = "The runner did not listen in time.";
  return registrationFailed(state, { code: "runner_start_failed", message }, true);
}

/** A job that was assigned may go elsewhere and leave an idle Listener behind: then the hand finds it idle. */
const drainAgainMs = 30_000;
