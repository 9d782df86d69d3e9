import { type JsonObject, maybe } from "@mig/protocol";
import type { SupervisedRunner } from "../runner/supervise.ts";

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
 * and never signalled while anything looks like a job. `busy` from GitHub is believed even when no Worker is seen
 * yet: the job is being handed over.
 */
export async function drainRunner(
  runner: SupervisedRunner | undefined,
  verdict: Verdict,
  bounds: Partial<DrainBounds> = {},
): Promise<DrainOutcome> {
  const { removedMs, interruptMs, killMs } = { ...defaults, ...bounds };
  if (runner === undefined) return drained("no_runner", runner, verdict, "no_process");
  if (!runner.isAlive()) {
    if (runner.isBusy()) return { kind: "busy" };
    // Between two of its starts (self-update, retry) it has no process either: it must not get another one.
    runner.expectEnd("stopped");
    if (await runner.whenEnded(interruptMs)) return drained("no_runner", runner, verdict, "no_process");
  }
  if (verdict === "busy" || (await runner.checkBusy())) return { kind: "busy" };

  if (verdict === "removed") {
    runner.expectEnd("removed");
    if (await endsOrGetsBusy(runner, removedMs)) return drained("idle", runner, verdict, "ended_by_itself");
    if (await runner.checkBusy()) return { kind: "busy" };
  }
  runner.expectEnd("stopped");
  runner.interrupt();
  if (await runner.whenEnded(interruptMs)) return drained("idle", runner, verdict, "interrupted");
  // It took a job in the moment of the signal; killing it would make that certain damage.
  if (await runner.checkBusy()) return { kind: "busy" };
  await runner.kill();
  await runner.whenEnded(killMs);
  return drained("idle", runner, verdict, "killed");
}

/** True when it has ended. A job that appears meanwhile ends the waiting: the deletion came too late for it. */
async function endsOrGetsBusy(runner: SupervisedRunner, withinMs: number): Promise<boolean> {
  const stepMs = Math.max(10, Math.min(1000, withinMs / 20));
  for (let leftMs = withinMs; leftMs > 0; leftMs -= stepMs) {
    if (await runner.whenEnded(Math.min(stepMs, leftMs))) return true;
    if (runner.isBusy()) return false;
  }
  return false;
}

function drained(
  was: "idle" | "no_runner",
  runner: SupervisedRunner | undefined,
  verdict: Verdict,
  listener: string,
): DrainOutcome {
  return {
    kind: "drained",
    was,
    proof: {
      listener,
      registration: verdict,
      worker_seen: runner?.isBusy() ?? false,
      ...maybe("runner_name", runner?.record.name),
      ...maybe("pid", runner?.record.pid),
    },
  };
}
