import fc from "fast-check";
import { expect, test } from "vitest";
import {
  type Evidence,
  type JobObservation,
  judge,
  type Moment,
  moveTimes,
  noEvidence,
  ranJob,
} from "./evidence.ts";

const bounds = { identityMs: 100, goneMs: 50, ghostMs: 1000 };
/** The wall clock is somewhere else, so that whoever takes one for the other is found. */
const at = (monoMs: number): Moment => ({ wallMs: 1_000_000 + monoMs, monoMs });
const stamp = "2026-08-17 14:15:44Z";
const line = (text: string, atMs: number): Evidence => ({
  kind: "line",
  text: `${stamp}: ${text}`,
  at: at(atMs),
});
const worker = (present: boolean | undefined, atMs: number): Evidence => ({
  kind: "worker",
  present,
  at: at(atMs),
});
const hook = (which: "started" | "completed", atMs: number): Evidence => ({
  kind: "hook",
  hook: which,
  job: { jobId: "build", runId: "7" },
  at: at(atMs),
});

const exit = (atMs: number, isCrash = false): Evidence => ({ kind: "exit", isCrash, at: at(atMs) });
const perf = (atMs: number, counter = "MessageReceived_RunnerJobRequest"): Evidence => ({
  kind: "perf",
  counter,
  at: at(atMs),
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
    exit(130),
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
  const seen = run(...start, failed, forged, exit(20));
  expect(seen.at(-1)).toMatchObject({ kind: "job_completed", result: "unknown" });
});

test("text inside other lines means nothing", () => {
  for (const text of ["x: Listening for Jobs", `Job a completed with result: Succeeded`, "Running job: a"])
    expect(run({ kind: "line", text, at: at(1) })).toEqual([]);
  expect(run(line("Job a completed with result: Succeeded", 1), exit(2))).toEqual([]);
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
    fc.constant({ make: (at: number) => perf(at) }),
  );
  fc.assert(
    fc.property(fc.array(fc.tuple(any, fc.nat(80))), (steps) => {
      let atMs = 0;
      const evidence = steps.map(([step, passedMs]) => {
        atMs += passedMs;
        return step.make(atMs);
      });
      const order = kinds(run(...evidence, exit(atMs + 1))).filter((kind) =>
        ["job_assigned", "job_started", "job_completed"].includes(kind),
      );
      const whole = ["job_assigned", "job_started", "job_completed"];
      // A job message that led to nothing leaves an assignment behind.
      expect([[], ["job_assigned"], whole]).toContainEqual(order);
      const hasJob = evidence.some(
        (one) =>
          (one.kind === "line" && one.text.includes("Running job")) ||
          (one.kind === "worker" && one.present === true) ||
          (one.kind === "hook" && one.hook === "started"),
      );
      expect(order.includes("job_completed")).toBe(hasJob);
    }),
  );
});

test("a wall clock that is set by three days ends no job, changes no duration, and moves its start along", () => {
  const days = 3 * 24 * 3_600_000;
  for (const jumpMs of [days, -days]) {
    const later = (monoMs: number): Moment => ({ wallMs: at(monoMs).wallMs + jumpMs, monoMs });
    let state = judge(noEvidence(), line("Running job: a", 1_000), bounds).state;
    state = judge(state, worker(true, 1_010), bounds).state;
    state = moveTimes(state, jumpMs);
    const looked = judge(state, { kind: "worker", present: false, at: later(1_020) }, bounds);
    expect(kinds(looked.observations)).toEqual([]);
    expect(looked.state.job.startedAtMs).toBe(at(1_000).wallMs + jumpMs);
    const ended = judge(looked.state, { kind: "exit", isCrash: false, at: later(1_500) }, bounds);
    expect(ended.observations.at(-1)).toMatchObject({ kind: "job_completed", durationMs: 500 });
  }
});

test("a job message makes the runner busy and no job of it", () => {
  const latched = judge(noEvidence(), perf(1), bounds);
  expect(latched.observations).toEqual([{ kind: "job_assigned", source: "perf" }]);
  expect(ranJob(latched.state)).toBe(false);
  // Neither the graces of a job nor the end of the Listener makes one.
  expect(kinds(run(perf(1), worker(false, 2), worker(false, 900), exit(901)))).toEqual(["job_assigned"]);
  expect(kinds(run(perf(1), line("Running job: a", 2), worker(true, 3), hook("started", 4)))).toEqual([
    "job_assigned",
    "job_started",
  ]);
  expect(run(perf(1, "MessageReceived_JobCancellation"), perf(2, "SessionCreated"))).toEqual([]);
});

test.each([
  ["a job message", perf(1), "job_message_without_job", "perf"],
  ["a running line", line("Running job: a", 1), "running_line_without_worker", "stdout"],
] as const)(
  "%s after which nothing comes is a ghost, said once",
  (_name, announced, contradiction, source) => {
    let state = judge(noEvidence(), announced, bounds).state;
    const stalled: unknown[] = [];
    const contradictions: string[] = [];
    for (const atMs of [500, 1000, 1001, 1500, 9000]) {
      const judged = judge(state, worker(false, atMs), bounds);
      state = judged.state;
      if (judged.stalled !== undefined) stalled.push(judged.stalled);
      contradictions.push(...judged.contradictions);
      expect(judged.observations).toEqual([]);
    }
    expect(stalled).toEqual([{ source, forMs: 1000 }]);
    expect(contradictions).toEqual([contradiction]);
  },
);

test("what cannot all be true is counted by kind and makes the result a hint", () => {
  const done = line("Job a completed with result: Succeeded", 20);
  const last = (...evidence: Evidence[]) => run(...evidence).at(-1);
  const job = [line("Running job: a", 1), worker(true, 5)];
  expect(last(...job, done, worker(true, 30), exit(40))).toMatchObject({
    result: "unknown",
    contradictions: { completion_line_with_worker: 1 },
  });
  expect(last(...job, worker(false, 10), done, done, done, exit(40))).toMatchObject({
    result: "unknown",
    contradictions: { completion_line_repeated: 2 },
  });
  expect(last(done, ...job, exit(40))).toMatchObject({ contradictions: { completion_line_without_job: 1 } });
  expect(last(...job, worker(false, 10), done, exit(40, true))).toMatchObject({
    result: "succeeded",
    confidence: "hint",
    contradictions: { succeeded_but_crashed: 1 },
  });
  const other = { ...hook("started", 8), job: { jobId: "build", runId: "9" } } as Evidence;
  expect(last(...job, hook("started", 7), other, exit(40))).toMatchObject({
    job: { runId: "7" },
    contradictions: { hook_repeated: 1 },
  });
  const over = [...job, worker(false, 10), worker(false, 70)].reduce(
    (state, one) => judge(state, one, bounds).state,
    noEvidence(),
  );
  expect(judge(over, hook("completed", 80), bounds).contradictions).toEqual(["hook_after_end"]);
  expect(judge(over, worker(true, 80), bounds).contradictions).toEqual(["worker_after_end"]);
});

test("the end of a job carries its figures and each first sighting with both clocks", () => {
  const usage = { cpuSeconds: 1.5, peakMemoryBytes: 7, diskWrittenBytes: 9 };
  const seen = run(
    perf(1),
    line("Running job: a", 2),
    worker(true, 3),
    hook("started", 4),
    worker(true, 5),
    { kind: "usage", usage },
    hook("completed", 6),
    worker(false, 7),
    line("Job a completed with result: Failed", 8),
    { kind: "exit", isCrash: false, exitCode: 0, at: at(9) },
  );
  expect(seen.at(-1)).toMatchObject({
    usage,
    result: "failed",
    confidence: "likely",
    exitCode: 0,
    trail: [
      { source: "perf", what: "job_message", ...at(1) },
      { source: "stdout", what: "running_line", ...at(2) },
      { source: "worker", what: "worker_seen", ...at(3) },
      { source: "hook", what: "hook_started", ...at(4) },
      { source: "hook", what: "hook_completed", ...at(6) },
      { source: "worker", what: "worker_gone", ...at(7) },
      { source: "stdout", what: "completion_line", ...at(8) },
      { source: "exit", what: "listener_ended", ...at(9) },
    ],
  });
  expect(seen.at(-1)).not.toHaveProperty("contradictions");
});

test("a job of an earlier process is announced if it was not, and never twice", () => {
  const of = (phase: "latched" | "assigned" | "over") =>
    kinds(judge(noEvidence({ listened: true, phase, assignedAt: at(0) }), exit(9), bounds).observations);
  expect(of("latched")).toEqual([]);
  expect(of("assigned")).toEqual(["job_started", "job_completed"]);
  expect(of("over")).toEqual([]);
});
