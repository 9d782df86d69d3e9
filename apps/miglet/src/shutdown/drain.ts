import { type JsonObject, maybe } from "@mig/protocol";
import type { RunnerFacts, SupervisedRunner } from "../runner/supervise.ts";

/** What GitHub said about the registration when the controller tried to delete it. */
export type Verdict = "removed" | "busy" | "unknown";

export interface DrainBounds {
  /** After "removed": how long the Listener may take to notice (a poll lasts up to 50 s). */
  removedMs: number;
  /** After SIGINT. */
  interruptMs: number;
  killMs: number;
}

export type DrainOutcome =
  | { kind: "drained"; was: "idle" | "no_runner"; proof: JsonObject }
  /** A job runs, or may run: wait for the runner's end and call again. */
  | { kind: "busy" };

const defaults: DrainBounds = { removedMs: 90_000, interruptMs: 30_000, killMs: 5_000 };

/**
 * Ends an idle runner so that no job can be lost (runner-contract §3.9): deleted at GitHub first, signalled second,
 * and never signalled while anything looks like a job, or cannot be looked at. `busy` from GitHub is believed even
 * when no Worker is seen yet: the job is being handed over. The proof is what was seen in the moment of the decision.
 */
export async function drainRunner(
  runner: SupervisedRunner | undefined,
  verdict: Verdict,
  bounds: Partial<DrainBounds> = {},
): Promise<DrainOutcome> {
  const { removedMs, interruptMs, killMs } = { ...defaults, ...bounds };
  if (runner === undefined) return noRunner(verdict);
  if (!runner.isAlive()) {
    if (runner.isBusy()) return { kind: "busy" };
    // Between two of its starts (self-update, retry) it has no process either: it must not get another one.
    runner.expectEnd("stopped");
    if (await runner.whenEnded(interruptMs))
      return drained("no_runner", runner, verdict, "no_process", await runner.checkFacts());
  }
  let facts = await runner.checkFacts();
  if (verdict === "busy" || !isIdle(facts, verdict)) return { kind: "busy" };

  if (verdict === "removed") {
    runner.expectEnd("removed");
    if (await endsOrGetsBusy(runner, removedMs))
      return drained("idle", runner, verdict, "ended_by_itself", await runner.checkFacts());
  } else if (facts.job === "over") {
    // It has had its one job and ends by itself; a signal could cut off what it still reports about it (§4.2).
    if (await runner.whenEnded(removedMs)) return drained("idle", runner, verdict, "ended_by_itself", facts);
  }
  facts = await runner.checkFacts();
  if (!isIdle(facts, verdict)) return { kind: "busy" };
  runner.expectEnd("stopped");
  runner.interrupt();
  if (await runner.whenEnded(interruptMs)) return drained("idle", runner, verdict, "interrupted", facts);
  // It took a job in the moment of the signal; killing it would make that certain damage.
  facts = await runner.checkFacts();
  if (!isIdle(facts, verdict)) return { kind: "busy" };
  await runner.kill();
  // Not seen to end is not ended: nothing is promised, and whoever asks again finds what is left.
  if (!(await runner.whenEnded(killMs))) return { kind: "busy" };
  return drained("idle", runner, verdict, "killed", facts);
}

/** Every sign must be looked at, and none may tell of a job. */
function isIdle(facts: RunnerFacts, verdict: Verdict): boolean {
  if (facts.unseen.length > 0) return false;
  // Where there is a process table it must be readable; elsewhere there is none to read.
  if (facts.worker === "running" || (facts.worker === "unknown" && process.platform === "linux"))
    return false;
  // A job message that led to nothing, and a registration that is gone: the ghost of runner-contract §4.8.
  if (facts.job === "latched") return facts.hasStalled && verdict === "removed";
  return facts.job === "waiting" || facts.job === "over";
}

/** True when it has ended. A job that appears meanwhile ends the waiting: the deletion came too late for it. */
async function endsOrGetsBusy(runner: SupervisedRunner, withinMs: number): Promise<boolean> {
  const wasBusy = runner.isBusy();
  const stepMs = Math.max(10, Math.min(1000, withinMs / 20));
  for (let leftMs = withinMs; leftMs > 0; leftMs -= stepMs) {
    if (await runner.whenEnded(Math.min(stepMs, leftMs))) return true;
    if (runner.isBusy() && !wasBusy) return false;
  }
  return false;
}

function noRunner(verdict: Verdict): DrainOutcome {
  return {
    kind: "drained",
    was: "no_runner",
    proof: { listener: "no_process", registration: verdict, worker: "none", job: "none", worker_seen: false },
  };
}

function drained(
  was: "idle" | "no_runner",
  runner: SupervisedRunner,
  verdict: Verdict,
  listener: string,
  facts: RunnerFacts,
): DrainOutcome {
  const { name, pid } = runner.record;
  return {
    kind: "drained",
    was,
    proof: {
      listener,
      registration: verdict,
      job: facts.job === "waiting" ? "none" : facts.job,
      job_message: facts.hasJobMessage,
      running_line: facts.hasRunningLine,
      hook: facts.hook,
      worker: facts.worker,
      worker_seen: facts.worker === "running",
      ...maybe("runner_name", name),
      ...maybe("pid", pid),
    },
  };
}
