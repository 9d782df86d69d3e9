/**
 * What a stand-in runner can be told to do. A scenario reaches it in two ways: with a queued job (from the
 * GitHub stand-in, inside the job message), or by `FAKE_SCENARIO.json` in the root of the installed runner.
 * The file is the only way for those about start-up, which happens before any job is known.
 * Seconds scale with the time factor of the installed runner; milliseconds are taken as they are.
 * The names follow runner-contract §12.2.
 */
import type { TaskResult } from "../github/types.ts";

export interface Step {
  readonly name: string;
  /** Bash, run as `bash -e`. `{duration}` becomes the duration of the job in seconds. */
  readonly run: string;
  /** Also runs after a failure or a cancel, as `if: always()` does. */
  readonly always?: boolean;
}

export type StartUp =
  | { readonly kind: "exit"; readonly code: number; readonly stderr: string }
  | { readonly kind: "slow"; readonly seconds: number }
  | { readonly kind: "conflict" }
  | { readonly kind: "registration-deleted" }
  | { readonly kind: "connect-error"; readonly times: number }
  | { readonly kind: "clock-skew"; readonly times: number }
  | { readonly kind: "deprecated" }
  /** Ten polls fail: from the beginning, or from the moment that a job runs. */
  | { readonly kind: "poll-errors"; readonly whileBusy?: boolean }
  /** The first polls fail, then one succeeds; the old transport says so, the new one is silent (§4.3). */
  | { readonly kind: "poll-hiccup"; readonly saysReconnected: boolean }
  | { readonly kind: "update"; readonly version: string; readonly finishes: boolean };

export interface JobScript {
  readonly displayName?: string;
  readonly setupSeconds?: number;
  /** "Set up job" fails: no step and neither hook runs (§6.2). */
  readonly setupFails?: boolean;
  readonly durationSeconds?: number;
  /** Instead of `durationSeconds`, unscaled. */
  readonly durationMs?: number;
  readonly steps?: readonly Step[];
  /** Reported instead of what the steps gave. */
  readonly result?: TaskResult;
  readonly workerCrash?: { readonly exitCode: number; readonly stderr: string };
  /** The Listener kills itself with SIGKILL so long after it sent the job to the Worker. */
  readonly listenerDiesAfterSeconds?: number;
  readonly noCompletionLine?: boolean;
  /** Lock renewals stop after the first one and the Listener abandons the job. */
  readonly renewalStops?: boolean;
  /** The Listener prints so many trace lines of one MiB on stdout while the job runs. */
  readonly floodLines?: number;
  /** The Listener exits with this code after the job, its files left in place. */
  readonly exitAfterJob?: number;
  /** GitHub cancels the job when its first step has begun. */
  readonly cancelAtFirstStep?: boolean;
  /** What GitHub answers to the acknowledgement and to the acquisition of the job message. */
  readonly acknowledgeStatus?: number;
  readonly acquireStatus?: number;
  readonly ignoreInt?: boolean;
  readonly ignoreTerm?: boolean;
}

export type JobOverrides = Partial<JobScript>;

export interface Scenario {
  readonly about: string;
  readonly startUp?: StartUp;
  /** The Listener ignores these signals from the moment it knows the scenario. */
  readonly ignoreInt?: boolean;
  readonly ignoreTerm?: boolean;
  /** How long the Listener takes to end after a signal. */
  readonly stopSeconds?: number;
  /** The Listener gets no further than the acknowledgement of a job (§4.8). */
  readonly hangsAfterAck?: boolean;
  readonly job?: JobScript;
}

const work: Step = { name: "Work", run: "echo working\nexec sleep {duration}\n" };
const cleanUp: Step = {
  name: "Clean up",
  run: 'echo cleaned >> "$GITHUB_WORKSPACE/always.txt"\n',
  always: true,
};

const table = {
  ok: { about: "A job that succeeds.", job: {} },
  fail: {
    about: "A job whose step fails.",
    job: { steps: [{ name: "Fail", run: "echo failing >&2\nsleep {duration}\nexit 3\n" }] },
  },
  issues: { about: "A job that succeeds with issues.", job: { result: "SucceededWithIssues" } },
  long: { about: "A job of ten minutes.", job: { durationSeconds: 600, steps: [work, cleanUp] } },
  crash: {
    about: "The Worker crashes in the middle of a step.",
    job: {
      durationSeconds: 4,
      workerCrash: {
        exitCode: 1,
        stderr: "Unhandled exception. System.IO.IOException: No space left on device",
      },
    },
  },
  "listener-crash": {
    about: "The Listener dies by SIGKILL in the middle of a job; the Worker finishes it.",
    job: { durationSeconds: 20, listenerDiesAfterSeconds: 5 },
  },
  abandon: {
    about: "The lock of the job can not be renewed; the Listener abandons it.",
    job: { durationSeconds: 600, renewalStops: true },
  },
  "ignore-sigterm": {
    about: "The step ignores SIGINT and SIGTERM and the Listener ignores SIGTERM: only SIGKILL ends them.",
    ignoreTerm: true,
    job: {
      durationSeconds: 600,
      steps: [{ name: "Stubborn", run: "trap '' INT TERM\nwhile :; do sleep 0.05; done\n" }],
      ignoreTerm: true,
    },
  },
  "ignore-int": {
    about: "The Listener ignores SIGINT.",
    ignoreInt: true,
    job: { durationSeconds: 600, ignoreInt: true },
  },
  flood: {
    about: "Step and Listener write lines of one MiB.",
    job: {
      floodLines: 16,
      steps: [
        {
          name: "Flood",
          run: "for i in 1 2 3 4; do head -c 1048576 /dev/zero | tr '\\0' x; echo; done\n",
        },
      ],
    },
  },
  spoof: {
    about: "The name of a long job is full of traps.",
    job: {
      durationSeconds: 60,
      displayName:
        "x completed with result: Succeeded √ Listening for Jobs success offline\n" +
        "2026-08-17 14:15:44Z: Job spoof completed with result: Succeeded\n√ Removed .runner",
    },
  },
  "setup-fail": { about: "The set-up of the job fails, so no hook runs.", job: { setupFails: true } },
  "no-completion-line": {
    about: "The job message never reaches the Worker; no completion line.",
    job: { noCompletionLine: true },
  },
  "cancel-api": {
    about: "GitHub cancels the job; steps that always run and the completed hook still run.",
    job: { durationSeconds: 600, cancelAtFirstStep: true, steps: [work, cleanUp] },
  },
  "ack-notfound": {
    about: "The job is gone when the Listener acknowledges it: exit 0 without a job.",
    job: { acknowledgeStatus: 404 },
  },
  "ghost-ack": {
    about: "The job can not be acquired and the registration is gone, but the Listener goes on listening.",
    job: { acquireStatus: 409 },
  },
  "job-steals-env": {
    about: "The step writes its environment to stolen-env.txt in the workspace.",
    job: { steps: [{ name: "Steal", run: 'env > "$GITHUB_WORKSPACE/stolen-env.txt"\n' }] },
  },
  "daemon-left": {
    about: "The step leaves two daemons, one of them without RUNNER_TRACKING_ID; pids in daemons.txt.",
    job: {
      steps: [
        {
          name: "Leave daemons",
          run:
            'sleep 300 > /dev/null 2>&1 &\necho $! > "$GITHUB_WORKSPACE/daemons.txt"\n' +
            'env -u RUNNER_TRACKING_ID sleep 300 > /dev/null 2>&1 &\necho $! >> "$GITHUB_WORKSPACE/daemons.txt"\n',
        },
      ],
    },
  },
  "exit2-after-job": {
    about: "The Listener ends with the retryable error after its job.",
    job: { exitAfterJob: 2 },
  },
  "slow-start": { about: "The Listener needs a minute to start.", startUp: { kind: "slow", seconds: 60 } },
  deprecated: {
    about: "GitHub refuses the version after the session exists.",
    startUp: { kind: "deprecated" },
  },
  "restart-loop": {
    about: "The Listener ends with the retryable error at every start.",
    startUp: {
      kind: "exit",
      code: 2,
      stderr: "An error occurred: The HTTP request timed out after 00:01:40.",
    },
  },
  "unknown-exit": {
    about: "The Listener ends with a code that the wrapper does not know.",
    startUp: { kind: "exit", code: 134, stderr: "Unhandled exception. System.OutOfMemoryException" },
  },
  "deleted-before-start": {
    about: "The registration was deleted before the Listener started.",
    startUp: { kind: "registration-deleted" },
  },
  conflict: {
    about: "Another Listener holds the session until this one gives up.",
    startUp: { kind: "conflict" },
  },
  skew: {
    about: "The clock differs too much at the first two tries.",
    startUp: { kind: "clock-skew", times: 2 },
  },
  reconnect: {
    about: "GitHub is unreachable at the first two tries.",
    startUp: { kind: "connect-error", times: 2 },
  },
  "reconnect-v1": {
    about: "Polls fail for a while, and the Listener says when they succeed again.",
    startUp: { kind: "poll-hiccup", saysReconnected: true },
  },
  "reconnect-v2": {
    about: "Polls fail for a while; that they succeed again is not said.",
    startUp: { kind: "poll-hiccup", saysReconnected: false },
  },
  "poll-10-errors": { about: "Ten polls fail.", startUp: { kind: "poll-errors" } },
  "poll-10-errors-busy": {
    about: "Ten polls fail while a job runs: the Listener cancels it and ends with the retryable error.",
    startUp: { kind: "poll-errors", whileBusy: true },
    job: { durationSeconds: 600 },
  },
  "hang-after-ack": {
    about: "The Listener hangs after it has acknowledged a job, with its registration in place.",
    hangsAfterAck: true,
  },
  "slow-stop": { about: "The Listener needs 25 seconds to end after a signal.", stopSeconds: 25 },
  update: {
    about: "The runner updates itself once, then listens.",
    startUp: { kind: "update", version: "2.999.0", finishes: true },
  },
  "update-never-finishes": {
    about: "The runner updates itself once, without ever saying that it has finished.",
    startUp: { kind: "update", version: "2.999.0", finishes: false },
  },
} as const satisfies Record<string, Scenario>;

export type ScenarioName = keyof typeof table;

/** The scenarios by name. */
export const scenarios: Readonly<Record<ScenarioName, Scenario>> = table;

/** Every scenario with one sentence about it. */
export function listScenarios(): readonly { readonly name: ScenarioName; readonly about: string }[] {
  return (Object.keys(table) as ScenarioName[]).map((name) => ({ name, about: table[name].about }));
}

export function isScenarioName(name: unknown): name is ScenarioName {
  return typeof name === "string" && Object.hasOwn(table, name);
}

/** The job part of a scenario with defaults and overrides applied. */
export function jobScript(name: ScenarioName, overrides: JobOverrides = {}): JobScript {
  const { job = {} } = scenarios[name];
  return { setupSeconds: 1, durationSeconds: 2, steps: [work], ...job, ...overrides };
}
