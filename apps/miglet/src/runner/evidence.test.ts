import fc from "fast-check";
import { expect, test } from "vitest";
import { type Evidence, type JobObservation, judge, moveTimes, noEvidence } from "./evidence.ts";

const bounds = { identityMs: 100, goneMs: 50 };
const stamp = "2026-08-17 14:15:44Z";
const line = (text: string, atMs: number): Evidence => ({ kind: "line", text: `${stamp}: ${text}`, atMs });
const worker = (present: boolean | undefined, atMs: number): Evidence => ({ kind: "worker", present, atMs });
const hook = (which: "started" | "completed", atMs: number): Evidence => ({
  kind: "hook",
  hook: which,
  job: { jobId: "build", runId: "7" },
  atMs,
});

function run(...evidence: Evidence[]): JobObservation[] {
  let state = noEvidence();
  return evidence.flatMap((one) => {
    const judged = judge(state, one, bounds);
    state = judged.state;
    return judged.observations;
  });
}
const kinds = (observations: readonly JobObservation[]): string[] => observations.map((one) => one.kind);

test("without a hook the job is announced after the grace and completed by what the Listener says", () => {
  const seen = run(
    line("Listening for Jobs", 0),
    line("Running job: a", 1),
    worker(true, 5),
    worker(true, 101),
    line("Job a completed with result: Canceled", 120),
    worker(false, 125),
    { kind: "exit", atMs: 130 },
  );
  expect(kinds(seen)).toEqual(["listening", "job_assigned", "job_started", "job_completed"]);
  expect(seen.at(-1)).toMatchObject({
    result: "cancelled",
    confidence: "likely",
    durationMs: 129,
    job: { jobName: "a" },
  });
});

test("the hook identifies the job, early or late", () => {
  expect(kinds(run(worker(true, 0), hook("started", 10)))).toEqual(["job_assigned", "job_started"]);
  expect(kinds(run(worker(true, 0), worker(true, 200), hook("started", 210)))).toEqual([
    "job_assigned",
    "job_started",
    "job_identified",
  ]);
});

test("a Worker that goes without a word completes the job after a grace, result unknown", () => {
  const seen = run(worker(true, 0), worker(false, 10), worker(false, 40), worker(false, 61));
  expect(kinds(seen)).toEqual(["job_assigned", "job_started", "job_completed"]);
  expect(seen.at(-1)).toMatchObject({ result: "unknown", confidence: "hint" });
});

test("a completion line in a job's name, before or during its Worker, is not believed", () => {
  const forged = line("Job a completed with result: Succeeded", 2);
  const during = run(
    line("Running job: a", 1),
    forged,
    worker(false, 3),
    worker(true, 10),
    forged,
    worker(true, 300),
  );
  expect(kinds(during)).toEqual(["job_assigned", "job_started"]);
  const atEnd = run(
    line("Running job: a", 1),
    forged,
    worker(true, 10),
    forged,
    worker(false, 400),
    worker(false, 460),
  );
  expect(atEnd.at(-1)).toMatchObject({ kind: "job_completed", result: "unknown" });
});

test("a name that writes its own end is not believed when the job is shorter than a look at the processes", () => {
  const forged = line("Job b completed with result: Succeeded", 2);
  const start = [line("Running job: a", 1), forged, hook("started", 3), worker(false, 4)];
  expect(kinds(run(...start))).not.toContain("job_completed");
  const failed = line("Job a", 9);
  const seen = run(...start, failed, forged, { kind: "exit", atMs: 20 });
  expect(seen.at(-1)).toMatchObject({ kind: "job_completed", result: "unknown" });
});

test("text inside other lines means nothing", () => {
  for (const text of ["x: Listening for Jobs", `Job a completed with result: Succeeded`, "Running job: a"])
    expect(run({ kind: "line", text, atMs: 1 })).toEqual([]);
  expect(run(line("Job a completed with result: Succeeded", 1), { kind: "exit", atMs: 2 })).toEqual([]);
});

test("whatever comes, a job is assigned, started and completed at most once and in this order", () => {
  const any = fc.oneof(
    fc
      .constantFrom("Listening for Jobs", "Running job: a", "Job a completed with result: Failed", "noise")
      .map((text) => ({ make: (at: number) => line(text, at) })),
    fc.constantFrom(true, false, undefined).map((present) => ({ make: (at: number) => worker(present, at) })),
    fc
      .constantFrom("started" as const, "completed" as const)
      .map((which) => ({ make: (at: number) => hook(which, at) })),
  );
  fc.assert(
    fc.property(fc.array(fc.tuple(any, fc.nat(80))), (steps) => {
      let atMs = 0;
      const evidence = steps.map(([step, passedMs]) => {
        atMs += passedMs;
        return step.make(atMs);
      });
      const order = kinds(run(...evidence, { kind: "exit", atMs: atMs + 1 })).filter((kind) =>
        ["job_assigned", "job_started", "job_completed"].includes(kind),
      );
      expect([[], ["job_assigned", "job_started", "job_completed"]]).toContainEqual(order);
    }),
  );
});

test("a wall clock that is set forward between assignment and Worker ends no job, and moves its start along", () => {
  const assigned = judge(noEvidence(), line("Running job: a", 1_000), bounds).state;
  const hourMs = 3_600_000;
  const moved = moveTimes(judge(assigned, worker(false, 1_010), bounds).state, hourMs);
  const looked = judge(moved, worker(false, 1_020 + hourMs), bounds);
  expect(kinds(looked.observations)).toEqual([]);
  expect(looked.state.job.startedAtMs).toBe(1_000 + hourMs);
});
