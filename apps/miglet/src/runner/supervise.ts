import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { systemClock } from "@mig/kit";
import type { JobData } from "@mig/protocol";
import { noEvidence } from "./evidence.ts";
import { type HookFiles, writeHooks } from "./job-hooks.ts";
import { Lookout } from "./lookout.ts";
import { assignedAt, knownPhase, type NotedRecord, readNotes } from "./notes.ts";
import {
  newRecord,
  type RunnerListener,
  type SupervisedRunner,
  type SuperviseSettings,
} from "./supervised-runner.ts";
import { Supervision } from "./supervision.ts";

export type { RunnerFacts } from "./facts.ts";
export type { RunnerNews, Stage, Trouble } from "./news.ts";
export type { NotedRecord } from "./notes.ts";
export type {
  RunnerListener,
  RunnerTiming,
  SupervisedRunner,
  SuperviseSettings,
} from "./supervised-runner.ts";

/** Throws MigError `runner_start_failed`. Does not wait for "Listening for Jobs": that is an observation. */
export async function startRunner(
  settings: SuperviseSettings,
  listener: RunnerListener,
): Promise<SupervisedRunner> {
  const directory = join(settings.stateDir, "runner");
  await mkdir(directory, { recursive: true, mode: 0o755 });
  const hooks = await writeHooks({
    dir: join(directory, "hooks"),
    chain: settings.chainHooks,
    isOtherUser: settings.environment.user !== undefined,
  });
  const record = newRecord(settings);
  for (const { path } of [record.output, record.hooks]) await writeFile(path, "", { mode: 0o600 });
  const lookout = new Lookout(settings, listener, record, noEvidence());
  const supervision = new Supervision(settings, listener, lookout, hooks);
  await supervision.launch();
  supervision.begin();
  return supervision;
}

/**
 * Finds the runner of an earlier process of this agent again, by pid, start time and boot. When it has ended
 * meanwhile, what it left is observed and `onExit` follows, with an exit code where its last words tell one. When it
 * was about to be started again, it is.
 */
export async function adoptRunner(
  record: NotedRecord,
  job: JobData | undefined,
  settings: SuperviseSettings,
  listener: RunnerListener,
): Promise<SupervisedRunner> {
  const clock = settings.clock ?? systemClock;
  const notes = readNotes(record.notes);
  const now = { wallMs: clock.nowMs(), monoMs: clock.monotonicMs() };
  const isSameBoot = record.bootId === settings.bootId;
  const known = {
    listened: record.listened,
    job,
    phase: knownPhase(notes),
    jobName: notes.jobName,
    assignedAt:
      assignedAt(notes, isSameBoot, now) ?? assignedAt({ assignedAtMs: job?.startedAtMs }, isSameBoot, now),
  };
  const lookout = new Lookout(settings, listener, record, noEvidence(known));
  const supervision = new Supervision(settings, listener, lookout, hooksOf(settings, record));
  await supervision.adopt();
  supervision.begin();
  return supervision;
}

/** As `writeHooks` has left them. */
function hooksOf({ stateDir }: SuperviseSettings, record: NotedRecord): HookFiles {
  const directory = join(stateDir, "runner", "hooks");
  return {
    started: join(directory, "job-started.sh"),
    completed: join(directory, "job-completed.sh"),
    spool: record.hooks.path,
  };
}
