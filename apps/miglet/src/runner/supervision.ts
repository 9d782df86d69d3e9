import { type Clock, type Log, pause, systemClock } from "@mig/kit";
import type { JobData } from "@mig/protocol";
import { createEnding } from "./ending.ts";
import { isBusy, type JobEvidence, ranJob } from "./evidence.ts";
import { exitCodeOf, judgeExit, type RunnerExit } from "./exit.ts";
import type { RunnerFacts } from "./facts.ts";
import { isConfigured } from "./installed-runner.ts";
import type { HookFiles } from "./job-hooks.ts";
import { endLeftovers } from "./leftovers.ts";
import type { Lookout } from "./lookout.ts";
import type { NotedRecord } from "./notes.ts";
import type { ProcessEnd } from "./process.ts";
import { createRelauncher, type Relauncher } from "./relaunch.ts";
import { isScriptRestart } from "./run-script.ts";
import { RunnerProcess } from "./runner-process.ts";
import {
  type RunnerListener,
  type RunnerTiming,
  type SupervisedRunner,
  type SuperviseSettings,
  timingDefaults,
} from "./supervised-runner.ts";

/**
 * One runner from its start to its end, looked at every `watchMs`.
 *
 * running     the Listener lives
 * relaunching codes 2, 3, 4: started again, as run.sh would, but with a cap (runner-contract §3.9)
 * orphaned    the Listener is gone and its Worker still runs the job: it may finish it (trap 9)
 * ended       what the job left behind was ended, and `onExit` was called
 */
export class Supervision implements SupervisedRunner {
  readonly #settings: SuperviseSettings;
  readonly #timing: RunnerTiming;
  readonly #listener: RunnerListener;
  readonly #lookout: Lookout;
  readonly #runner: RunnerProcess;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #releasing = new AbortController();
  readonly #ending = createEnding();
  readonly #relaunch: Relauncher;
  readonly #hurry = new AbortController();
  #expected: "removed" | "stopped" | undefined;
  #hasTooManyRestarts = false;
  /** What a process before this one saw of the Listener's end. */
  #endBefore: ProcessEnd = {};
  #running: Promise<void> | undefined;

  constructor(settings: SuperviseSettings, listener: RunnerListener, lookout: Lookout, hooks: HookFiles) {
    this.#settings = settings;
    this.#timing = { ...timingDefaults, ...settings.timing };
    this.#listener = listener;
    this.#lookout = lookout;
    this.#runner = new RunnerProcess(settings, lookout, hooks, this.#releasing.signal);
    this.#clock = settings.clock ?? systemClock;
    this.#log = settings.log;
    this.#relaunch = createRelauncher(this.#timing, this.#clock, (lookout.notes.relaunch?.count ?? 1) - 1);
    lookout.onLine = (line) => this.#watchScript(line);
  }

  get record(): NotedRecord {
    return this.#lookout.record;
  }

  launch(): Promise<void> {
    return this.#runner.launch();
  }

  async adopt(): Promise<void> {
    await this.#lookout.recall();
    this.#endBefore = await this.#runner.adopt();
  }

  begin(): void {
    this.#running = this.#run()
      .catch((error: unknown) => {
        this.#log.error({ error }, "The supervision of the runner failed.");
        this.#end({
          meaning: "crashed",
          ranJob: ranJob(this.#evidence),
          message: `Its supervision failed: ${String(error)}`,
        });
      })
      // An agent that registers again lives on. What it leaves open the garbage collector closes, which costs Bun's
      // process its life, and Node a warning.
      .then(() => this.#lookout.close());
  }

  isAlive(): boolean {
    return this.#runner.isAlive();
  }

  isBusy(): boolean {
    return isBusy(this.#evidence);
  }

  async checkBusy(): Promise<boolean> {
    await this.#lookout.look();
    return this.isBusy();
  }

  async checkFacts(): Promise<RunnerFacts> {
    await this.#lookout.look();
    return this.#lookout.facts();
  }

  currentJob(): JobData | undefined {
    const { phase, job } = this.#evidence;
    return phase === "assigned" || phase === "started" ? job : undefined;
  }

  interrupt(): void {
    this.#runner
      .interrupt(() => this.checkBusy())
      .catch((error: unknown) => this.#log.error({ error }, "The runner could not be interrupted."));
  }

  kill(): Promise<void> {
    return this.#runner.kill();
  }

  whenEnded(withinMs: number): Promise<boolean> {
    return this.#ending.within(withinMs);
  }

  expectEnd(why: "removed" | "stopped"): void {
    this.#expected = why;
    this.#hurry.abort();
  }

  async release(): Promise<void> {
    this.#releasing.abort();
    await this.#running;
    await this.#lookout.close();
  }

  get #evidence(): JobEvidence {
    return this.#lookout.evidence;
  }

  async #run(): Promise<void> {
    for (;;) {
      const end = await this.#watch();
      if (end === undefined) return;
      await this.#outliveListener();
      if (this.#releasing.signal.aborted) return;
      const exit = await this.#judgeEnd({ ...this.#endBefore, ...end });
      this.#endBefore = {};
      if (exit.meaning === "relaunch") {
        if (await this.#mayRelaunch(exit.exitCode)) {
          this.#log.info({ exit_code: exit.exitCode }, "The runner is started again.");
          await this.#runner.launch();
          // Somebody asked for the end while it was being started.
          if (this.#expected === "stopped") this.interrupt();
          continue;
        }
        if (this.#releasing.signal.aborted) return;
        exit.meaning = this.#expected === undefined ? "crashed" : "stopped";
      }
      await this.#endAll(exit);
      return;
    }
  }

  /** Looks at everything again and again until the Listener ends; undefined when released. */
  async #watch(): Promise<ProcessEnd | undefined> {
    let end: ProcessEnd | undefined;
    const ending = new AbortController();
    const whenEnded = this.#runner.ended()?.then((ended) => {
      end = ended;
      ending.abort();
    });
    const signal = AbortSignal.any([ending.signal, this.#releasing.signal]);
    while (!signal.aborted) {
      await this.#lookout.look();
      await pause(this.#timing.watchMs, signal);
    }
    if (this.#releasing.signal.aborted) return undefined;
    await whenEnded;
    return end ?? {};
  }

  /** A Worker without its Listener may finish its job; so may one that cannot be told to be gone. */
  async #outliveListener(): Promise<void> {
    const untilMs = this.#clock.monotonicMs() + this.#timing.orphanMs;
    await this.#lookout.readToEnd();
    if (!this.#lookout.mayWork()) return;
    this.#log.warn({ pid: this.record.pid }, "The Listener is gone and its Worker still runs the job.");
    while (this.#lookout.mayWork() && !this.#releasing.signal.aborted) {
      if (this.#clock.monotonicMs() >= untilMs) {
        await this.kill();
        if (this.#evidence.worker !== "running") return;
      }
      await pause(this.#timing.watchMs, this.#releasing.signal);
      await this.#lookout.look();
    }
  }

  async #judgeEnd(end: ProcessEnd): Promise<RunnerExit> {
    const { lastLines, notes } = this.#lookout;
    const isStillConfigured = await isConfigured(this.record.dir);
    const exitCode = exitCodeOf(end, notes.launcher, isStillConfigured, lastLines);
    const exit = judgeExit({
      exitCode,
      signal: exitCode === undefined ? end.signal : undefined,
      ranJob: ranJob(this.#evidence),
      hasListened: this.#evidence.hasListened,
      isConfigured: isStillConfigured,
      expected: this.#expected,
      lastLines,
    });
    if (!this.#hasTooManyRestarts || this.#expected !== undefined) return exit;
    const message = `run.sh has started its Listener again too often. ${exit.message}`;
    return { ...exit, meaning: "crashed", exitCode: 2, message };
  }

  async #mayRelaunch(exitCode: number | undefined): Promise<boolean> {
    const isStartable = (await isConfigured(this.record.dir)) || this.#settings.jitConfig !== undefined;
    const signal = AbortSignal.any([this.#hurry.signal, this.#releasing.signal]);
    if (!isStartable || signal.aborted || !this.#relaunch.mayAgain()) return false;
    // For an agent that finds a dead Listener and cannot know its code.
    if (exitCode !== undefined) this.#lookout.note({ relaunch: { exitCode, count: this.#relaunch.count() } });
    return this.#relaunch.wait(this.record.dir, exitCode, signal);
  }

  /** run.sh starts its Listener again without a limit (runner-contract trap 2). */
  #watchScript(line: string): void {
    // A job's name may say it too; then somebody is busy.
    const hasJob = ranJob(this.#evidence) && this.isBusy();
    if (this.#lookout.notes.launcher !== "run.sh" || !isScriptRestart(line) || hasJob) return;
    this.#lookout.restart();
    if (this.#relaunch.mayAgain()) return;
    this.#hasTooManyRestarts = true;
    this.kill().catch((error: unknown) => this.#log.error({ error }, "run.sh could not be ended."));
  }

  async #endAll(exit: RunnerExit): Promise<void> {
    const { pid, startTicks, bootId } = this.record;
    const { scope } = this.#lookout.notes;
    // The numbers of an earlier boot are other people's; and nothing is ended while a Worker may be among it.
    const isOurs = bootId === this.#settings.bootId && !this.#lookout.mayWork();
    const leftBehind = isOurs ? await endLeftovers({ pid, startTicks, scope }) : 0;
    if (leftBehind > 0) {
      exit.leftBehind = leftBehind;
      this.#log.warn({ processes: leftBehind }, "Processes that the job left behind were ended.");
    }
    const { meaning, exitCode } = exit;
    this.#lookout.take({ kind: "exit", isCrash: meaning === "crashed", exitCode, at: this.#lookout.now() });
    this.#end(exit);
  }

  #end(exit: RunnerExit): void {
    this.#listener.onExit(exit);
    this.#ending.mark();
  }
}
