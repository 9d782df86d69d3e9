import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Clock, type Log, pause, systemClock } from "@mig/kit";
import { type JobData, maybe } from "@mig/protocol";
import type { RunnerRecord } from "../memory/state-file.ts";
import { type Evidence, type JobEvidence, judge, moveTimes, noEvidence } from "./evidence.ts";
import { judgeExit, type RunnerExit } from "./exit.ts";
import { isConfigured } from "./installed-runner.ts";
import { type HookFiles, parseHookLine, writeHooks } from "./job-hooks.ts";
import { findProgram, hasWorker } from "./proc.ts";
import {
  findListener,
  interruptListener,
  killRunner,
  type ListenerProcess,
  launchListener,
  type ProcessEnd,
} from "./process.ts";
import { createRelauncher, type Relauncher } from "./relaunch.ts";
import {
  newRecord,
  type RunnerListener,
  type RunnerTiming,
  type SupervisedRunner,
  type SuperviseSettings,
  timingDefaults,
} from "./supervised-runner.ts";
import { type FileTail, tailFile } from "./tail-file.ts";

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
  const supervision = new Supervision(settings, listener, record, noEvidence());
  await supervision.launch(hooks);
  supervision.begin();
  return supervision;
}

/**
 * Finds the runner of an earlier process of this agent again, by pid, start time and boot. When it has ended
 * meanwhile, what it left is observed and `onExit` follows, without an exit code.
 */
export async function adoptRunner(
  record: RunnerRecord,
  job: JobData | undefined,
  settings: SuperviseSettings,
  listener: RunnerListener,
): Promise<SupervisedRunner> {
  const supervision = new Supervision(
    settings,
    listener,
    record,
    noEvidence({ listened: record.listened, job }),
  );
  await supervision.adopt();
  supervision.begin();
  return supervision;
}

/** Of hook lines at one look. A job can write such lines as fast as the machine can, and must not hold up the rest. */
const hookBytesMax = 256 * 1024;

/**
 * One Listener from its start to its end: process, output, hooks and Worker, looked at every `watchMs`.
 *
 * running     the Listener lives
 * relaunching codes 2, 3, 4: started again, as run.sh would, but with a cap (runner-contract §3.9)
 * orphaned    the Listener is gone and its Worker still runs the job: it may finish it (trap 9)
 * ended       `onExit` was called
 */
class Supervision implements SupervisedRunner {
  record: RunnerRecord;
  readonly #settings: SuperviseSettings;
  readonly #timing: RunnerTiming;
  readonly #listener: RunnerListener;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #releasing = new AbortController();
  readonly #hasEnded: Promise<true>;
  readonly #output: FileTail;
  readonly #hookLines: FileTail;
  #markEnded: (ended: true) => void = () => {};
  #evidence: JobEvidence;
  #process: ListenerProcess | undefined;
  #hooks: HookFiles | undefined;
  #expected: "removed" | "stopped" | undefined;
  #hurry = new AbortController();
  #lastLines: string[] = [];
  /** Of the wall clock before the monotonic one. */
  #aheadMs: number;
  readonly #relaunch: Relauncher;
  #running: Promise<void> | undefined;
  #looking: Promise<void> = Promise.resolve();

  constructor(
    settings: SuperviseSettings,
    listener: RunnerListener,
    record: RunnerRecord,
    evidence: JobEvidence,
  ) {
    this.#settings = settings;
    this.#timing = { ...timingDefaults, ...settings.timing };
    this.#relaunch = createRelauncher(this.#timing, settings.clock ?? systemClock);
    this.#listener = listener;
    this.#clock = settings.clock ?? systemClock;
    this.#log = settings.log;
    this.#evidence = evidence;
    this.#aheadMs = this.#clock.nowMs() - this.#clock.monotonicMs();
    this.record = record;
    this.#hasEnded = new Promise((resolve) => {
      this.#markEnded = resolve;
    });
    this.#output = tailFile({ ...record.output, onLine: (line) => this.#takeLine(line) });
    this.#hookLines = tailFile({
      ...record.hooks,
      lineBytesMax: 8192,
      readBytesMax: hookBytesMax,
      onLine: (line) => this.#takeHook(line),
    });
  }

  async launch(hooks: HookFiles | undefined = this.#hooks): Promise<void> {
    const { installed, environment, jitConfig } = this.#settings;
    this.#hooks = hooks;
    this.#process = await launchListener({
      installed,
      environment,
      outputPath: this.record.output.path,
      variables: {
        // Exactly "1": what the Listener and the scripts around it both understand (runner-contract §3.3).
        ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE: "1",
        ...(hooks === undefined
          ? {}
          : {
              ACTIONS_RUNNER_HOOK_JOB_STARTED: hooks.started,
              ACTIONS_RUNNER_HOOK_JOB_COMPLETED: hooks.completed,
            }),
        ...(jitConfig === undefined ? {} : { ACTIONS_RUNNER_INPUT_JITCONFIG: jitConfig }),
      },
    });
    this.#lastLines = [];
    const { pid, startTicks } = this.#process;
    this.#setRecord({ ...this.record, pid, ...maybe("startTicks", startTicks) });
  }

  async adopt(): Promise<void> {
    const { pid, startTicks, bootId } = this.record;
    const directory = join(this.#settings.stateDir, "runner", "hooks");
    const [started, completed] = [join(directory, "job-started.sh"), join(directory, "job-completed.sh")];
    this.#hooks = { started, completed, spool: this.record.hooks.path };
    // After another boot the number means nothing; -1 is nobody's.
    const isSameBoot = bootId === this.#settings.bootId;
    const find = (n: number, start: number | undefined): Promise<ListenerProcess> =>
      findListener(n, start, this.#timing.watchMs, this.#releasing.signal);
    this.#process = await find(pid, isSameBoot ? startTicks : -1);
    if (this.#process.isAlive()) return;
    // The agent may have died between starting it (again) and writing its number down.
    const other = await findProgram(this.#settings.installed.listener);
    if (other === undefined) return;
    this.#process = await find(other.pid, other.startTicks);
    this.#setRecord({ ...this.record, ...other, bootId: this.#settings.bootId });
  }

  begin(): void {
    this.#running = this.#run().catch((error: unknown) => {
      this.#log.error({ error }, "The supervision of the runner failed.");
      this.#end({
        meaning: "crashed",
        ranJob: this.#ranJob(),
        message: `Its supervision failed: ${String(error)}`,
      });
    });
  }

  isAlive(): boolean {
    return this.#process?.isAlive() === true;
  }

  isBusy(): boolean {
    const { phase, workerPresent } = this.#evidence;
    return phase === "assigned" || phase === "started" || workerPresent;
  }

  async checkBusy(): Promise<boolean> {
    await this.#look();
    return this.isBusy();
  }

  currentJob(): JobData | undefined {
    const { phase, job } = this.#evidence;
    return phase === "assigned" || phase === "started" ? job : undefined;
  }

  interrupt(): void {
    if (this.#process !== undefined) interruptListener(this.#process);
  }

  async kill(): Promise<void> {
    if (this.#process !== undefined) await killRunner(this.#process);
  }

  async whenEnded(withinMs: number): Promise<boolean> {
    const timer = new AbortController();
    const late = pause(withinMs, timer.signal).then(() => false);
    const ended = await Promise.race([this.#hasEnded, late]);
    timer.abort();
    return ended;
  }

  expectEnd(why: "removed" | "stopped"): void {
    this.#expected = why;
    this.#hurry.abort();
  }

  async release(): Promise<void> {
    this.#releasing.abort();
    await this.#running;
    await this.#output.close();
    await this.#hookLines.close();
  }

  async #run(): Promise<void> {
    for (;;) {
      const end = await this.#watch();
      if (end === undefined) return;
      await this.#outliveListener();
      if (this.#releasing.signal.aborted) return;
      const exit = await this.#judgeEnd(end);
      if (exit.meaning === "relaunch") {
        if (await this.#mayRelaunch(exit.exitCode)) {
          this.#log.info({ exit_code: exit.exitCode }, "The runner is started again.");
          await this.launch();
          // Somebody asked for the end while it was being started.
          if (this.#expected === "stopped") this.interrupt();
          continue;
        }
        exit.meaning = this.#expected === undefined ? "crashed" : "stopped";
      }
      this.#take({ kind: "exit", atMs: this.#clock.nowMs() });
      this.#end(exit);
      return;
    }
  }

  /** Looks at everything again and again until the Listener ends; undefined when released. */
  async #watch(): Promise<ProcessEnd | undefined> {
    const listener = this.#process;
    let end: ProcessEnd | undefined;
    const ending = new AbortController();
    const whenEnded = listener?.ended.then((ended) => {
      end = ended;
      ending.abort();
    });
    const signal = AbortSignal.any([ending.signal, this.#releasing.signal]);
    while (!signal.aborted) {
      await this.#look();
      await pause(this.#timing.watchMs, signal);
    }
    if (this.#releasing.signal.aborted) return undefined;
    await whenEnded;
    return end ?? {};
  }

  async #outliveListener(): Promise<void> {
    const untilMs = this.#clock.monotonicMs() + this.#timing.orphanMs;
    await this.#look();
    if (!this.#evidence.workerPresent) return;
    this.#log.warn({ pid: this.record.pid }, "The Listener is gone and its Worker still runs the job.");
    while (this.#evidence.workerPresent && !this.#releasing.signal.aborted) {
      if (this.#clock.monotonicMs() >= untilMs) await this.kill();
      await pause(this.#timing.watchMs, this.#releasing.signal);
      await this.#look();
    }
  }

  async #judgeEnd(end: ProcessEnd): Promise<RunnerExit> {
    return judgeExit({
      exitCode: end.code,
      signal: end.signal,
      ranJob: this.#ranJob(),
      hasListened: this.#evidence.hasListened,
      isConfigured: await isConfigured(this.record.dir),
      expected: this.#expected,
      lastLines: this.#lastLines,
    });
  }

  async #mayRelaunch(exitCode: number | undefined): Promise<boolean> {
    const isStartable = (await isConfigured(this.record.dir)) || this.#settings.jitConfig !== undefined;
    const signal = AbortSignal.any([this.#hurry.signal, this.#releasing.signal]);
    return isStartable && (await this.#relaunch(this.record.dir, exitCode, signal));
  }

  /** The wall clock is set now and then; what was noted by it before is moved along, so that no time seems to pass. */
  #followClock(): void {
    const aheadMs = this.#clock.nowMs() - this.#clock.monotonicMs();
    const jumpMs = aheadMs - this.#aheadMs;
    if (Math.abs(jumpMs) < 1000) return;
    this.#aheadMs = aheadMs;
    this.#evidence = moveTimes(this.#evidence, jumpMs);
  }

  #look(): Promise<void> {
    this.#looking = this.#looking.then(async () => {
      try {
        this.#followClock();
        await this.#hookLines.read();
        // After the hooks, because a hook means a Worker that is seen here unless it has ended; before the output,
        // because a completion line is only believed when a later look finds no Worker.
        const present = await hasWorker(this.record.pid);
        this.#take({ kind: "worker", present, atMs: this.#clock.nowMs() });
        await this.#output.read();
        for (const file of [this.#output, this.#hookLines]) await file.shrink(this.#timing.outputBytesMax);
        this.#noteOffsets();
      } catch (error) {
        this.#log.warn({ error }, "A look at the runner failed.");
      }
    });
    return this.#looking;
  }

  #takeLine(line: string): void {
    this.#lastLines.push(line.slice(0, 500));
    if (this.#lastLines.length > 20) this.#lastLines.shift();
    this.#take({ kind: "line", text: line, atMs: this.#clock.nowMs() });
  }

  #takeHook(line: string): void {
    const report = parseHookLine(line);
    if (report !== undefined) this.#take({ kind: "hook", ...report, atMs: this.#clock.nowMs() });
    else this.#log.debug({}, "A hook line that cannot be understood was skipped.");
  }

  #take(evidence: Evidence): void {
    const { state, observations } = judge(this.#evidence, evidence, this.#timing);
    this.#evidence = state;
    for (const observation of observations) this.#listener.onObservation(observation);
    // After what was seen: an agent that dies between the two must see it again, not take it for told.
    if (state.hasListened && !this.record.listened) this.#setRecord({ ...this.record, listened: true });
  }

  #noteOffsets(): void {
    const { output, hooks } = this.record;
    const [outputAt, hooksAt] = [this.#output.offset(), this.#hookLines.offset()];
    if (output.offset === outputAt && hooks.offset === hooksAt) return;
    this.#setRecord({
      ...this.record,
      output: { ...output, offset: outputAt },
      hooks: { ...hooks, offset: hooksAt },
    });
  }

  #setRecord(record: RunnerRecord): void {
    this.record = record;
    this.#listener.onRecord(record);
  }

  #ranJob(): boolean {
    return this.#evidence.phase !== "waiting";
  }

  #end(exit: RunnerExit): void {
    this.#listener.onExit(exit);
    this.#markEnded(true);
  }
}
