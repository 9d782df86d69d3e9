import { type Clock, type Log, systemClock } from "@mig/kit";
import type { JobData } from "@mig/protocol";
import { watchJumps } from "./clock-jumps.ts";
import {
  type Evidence,
  forgetLatch,
  isBusy,
  type JobEvidence,
  judge,
  type Moment,
  moveTimes,
} from "./evidence.ts";
import { factsOf, type RunnerFacts } from "./facts.ts";
import { parseHookLine } from "./job-hooks.ts";
import { readLastLines } from "./last-lines.ts";
import { createLookParts, type LookParts } from "./look-parts.ts";
import { beginStages, judgeNews, type NewsState, type RunnerNews, type ToldNews } from "./news.ts";
import { type NotedRecord, noteJob, type RunnerNotes, readNotes, writeNotes } from "./notes.ts";
import { makePerfLog, type PerfLog, perfLogIn, readCounter } from "./perf-log.ts";
import { hasWorker } from "./runner-tree.ts";
import {
  type RunnerListener,
  type RunnerTiming,
  type SuperviseSettings,
  timingDefaults,
} from "./supervised-runner.ts";
import { type FileTail, tailFile } from "./tail-file.ts";
import { createUsageMeter, type UsageMeter } from "./usage.ts";

/** After the end of a Listener: enough for a gibibyte of output, or for some seconds of a slow disk. */
const endLooksMax = 20;

/** Of hook lines and counters at one look: a job can write them as fast as the machine can. */
const ofJob = { lineBytesMax: 8192, readBytesMax: 256 * 1024 };

/**
 * Everything that is seen of a runner: its output, hooks, counters, processes and figures, and what follows from
 * them. It keeps the record and tells the listener; it acts on nothing.
 */
export class Lookout {
  record: NotedRecord;
  evidence: JobEvidence;
  lastLines: string[] = [];
  /** The script around the Listener says that it starts it again. */
  onLine: (line: string) => void = () => {};
  readonly #timing: RunnerTiming;
  readonly #listener: RunnerListener;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #isOtherUser: boolean;
  readonly #output: FileTail;
  readonly #hookLines: FileTail;
  #perfLines: FileTail;
  readonly #perf: PerfLog;
  readonly #parts: LookParts;
  readonly #usage: UsageMeter;
  #notes: RunnerNotes;
  #news: NewsState;
  readonly #jump: () => number;
  #looking: Promise<void> = Promise.resolve();

  constructor(
    settings: SuperviseSettings,
    listener: RunnerListener,
    record: NotedRecord,
    evidence: JobEvidence,
  ) {
    this.#timing = { ...timingDefaults, ...settings.timing };
    this.#listener = listener;
    this.#clock = settings.clock ?? systemClock;
    this.#log = settings.log;
    this.#isOtherUser = settings.environment.user !== undefined;
    this.#usage = createUsageMeter(this.#timing.usageMs);
    this.#perf = perfLogIn(settings.stateDir);
    this.#jump = watchJumps(this.#clock);
    this.record = record;
    this.evidence = evidence;
    this.#notes = readNotes(record.notes);
    this.#news = { stage: record.listened ? "listening" : "started", lastMs: {} };
    this.#parts = createLookParts(this.#timing.lookMs, (part, error) =>
      this.#log.warn({ part, error }, "A look at the runner failed; said once for each part."),
    );
    this.#output = tailFile({ ...record.output, onLine: (line) => this.#takeLine(line) });
    this.#hookLines = tailFile({ ...record.hooks, ...ofJob, onLine: (line) => this.#takeHook(line) });
    this.#perfLines = this.#openPerf();
  }

  now(): Moment {
    return { wallMs: this.#clock.nowMs(), monoMs: this.#clock.monotonicMs() };
  }

  get notes(): RunnerNotes {
    return this.#notes;
  }

  /** Before each start of the Listener: what its predecessor was told is over. */
  async prepare(): Promise<PerfLog> {
    await this.#parts.run("end of counters", () => this.#perfLines.close());
    await makePerfLog(this.#perf, this.#isOtherUser);
    this.#perfLines = this.#openPerf();
    this.restart();
    return this.#perf;
  }

  /** Of a runner that may have ended: its last words may have been read by a process before this one. */
  async recall(): Promise<void> {
    const { path, offset } = this.record.output;
    await this.#parts.run("output", async () => {
      this.lastLines = await readLastLines(path, offset);
    });
  }

  restart(): void {
    this.lastLines = [];
    this.evidence = forgetLatch(this.evidence);
    this.#tell(beginStages(this.#timing, this.#news));
    this.note(noteJob(this.evidence, this.now()));
  }

  /** Looks at everything once; calls queue up, and the look that a call waits for began after it. */
  look(): Promise<void> {
    this.#looking = this.#looking
      .then(() => this.#lookOnce())
      .catch((error: unknown) => this.#log.warn({ error }, "A look at the runner failed."));
    return this.#looking;
  }

  /** What the Listener has said last may be far behind a flood of other lines. */
  async readToEnd(): Promise<void> {
    for (let looks = 0; looks < endLooksMax; looks += 1) {
      const { offset } = this.record.output;
      await this.look();
      if (this.record.output.offset === offset && this.#parts.pending().length === 0) return;
    }
  }

  /** A Worker runs, or nobody can say that none does. */
  mayWork(): boolean {
    if (process.platform !== "linux") return this.evidence.worker === "running";
    return this.evidence.worker !== "none" || this.#parts.pending().includes("processes");
  }

  facts(): RunnerFacts {
    return factsOf(this.evidence, this.#parts.pending());
  }

  take(evidence: Evidence): void {
    const { phase, job } = this.evidence;
    const { state, observations, contradictions, stalled } = judge(this.evidence, evidence, this.#timing);
    this.evidence = state;
    for (const kind of contradictions)
      if (state.contradictions[kind] === 1)
        this.#log.warn({ contradiction: kind }, "What is seen of the job cannot all be true.");
    for (const observation of observations) this.#listener.onObservation(observation);
    if (stalled !== undefined) this.#listener.onNews?.({ kind: "job_stalled", why: "ghost", ...stalled });
    // After what was seen: an agent that dies between the two must see it again, not take it for told.
    if (state.phase !== phase || state.job.jobName !== job.jobName) this.note(noteJob(state, this.now()));
    if (state.hasListened && !this.record.listened) this.setRecord({ ...this.record, listened: true });
  }

  setRecord(record: NotedRecord): void {
    this.record = record;
    this.#listener.onRecord(record);
  }

  note(change: Partial<RunnerNotes>): void {
    this.#notes = { ...this.#notes, ...change };
    const notes = writeNotes(this.#notes);
    if (JSON.stringify(notes) !== JSON.stringify(this.record.notes ?? {}))
      this.setRecord({ ...this.record, notes });
  }

  async close(): Promise<void> {
    const files = { output: this.#output, hooks: this.#hookLines, counters: this.#perfLines };
    for (const [name, file] of Object.entries(files)) await this.#parts.run(`end of ${name}`, file.close);
  }

  /** From its start each time: it is emptied with every start of the Listener, and a latch may be set twice. */
  #openPerf(): FileTail {
    return tailFile({
      path: this.#perf.path,
      offset: 0,
      ...ofJob,
      onLine: (line) => {
        const counter = readCounter(line);
        if (counter !== undefined) this.take({ kind: "perf", counter, at: this.now() });
      },
    });
  }

  async #lookOnce(): Promise<void> {
    // What was noted by the wall clock moves along when that is set, so that no time seems to pass.
    const jumpMs = this.#jump();
    if (jumpMs !== 0) this.evidence = moveTimes(this.evidence, jumpMs);
    // In the order in which a job leaves its signs (runner-contract §4.7).
    await this.#parts.run("counters", async () => {
      await this.#perfLines.read();
      await this.#perfLines.shrink(this.#timing.outputBytesMax);
    });
    await this.#parts.run("hooks", async () => {
      await this.#hookLines.read();
    });
    // After the hooks, because a hook means a Worker that is seen here unless it has ended; before the output,
    // because a completion line is only believed when a later look finds no Worker.
    await this.#parts.run("figures", () => this.#measure());
    await this.#parts.run("processes", async () => {
      const present = await hasWorker(this.record.pid);
      this.take({ kind: "worker", present, at: this.now() });
    });
    await this.#parts.run("output", async () => {
      await this.#output.read();
      await this.#output.shrink(this.#timing.outputBytesMax);
    });
    await this.#parts.run("hooks", () => this.#hookLines.shrink(this.#timing.outputBytesMax));
    this.#noteOffsets();
  }

  /** Before the evidence that may end the job, so that its end has the figures. */
  async #measure(): Promise<void> {
    const usage = await this.#usage.look({
      leaderPid: this.record.pid,
      scope: this.#notes.scope,
      evidence: this.evidence,
      nowMs: this.#clock.monotonicMs(),
    });
    if (usage !== undefined) this.take({ kind: "usage", usage });
  }

  #takeLine(line: string): void {
    this.lastLines.push(line.slice(0, 500));
    if (this.lastLines.length > 20) this.lastLines.shift();
    this.take({ kind: "line", text: line, at: this.now() });
    const about = { nowMs: this.#clock.monotonicMs(), hasJob: isBusy(this.evidence) };
    this.#tell(judgeNews(this.#news, line, about, this.#timing));
    this.onLine(line);
  }

  #takeHook(line: string): void {
    const report: { hook: "started" | "completed"; job: JobData } | undefined = parseHookLine(line);
    if (report !== undefined) this.take({ kind: "hook", ...report, at: this.now() });
    else this.#log.debug({}, "A hook line that cannot be understood was skipped.");
  }

  #tell({ state, news }: ToldNews): void {
    this.#news = state;
    for (const one of news) this.#listener.onNews?.(one satisfies RunnerNews);
  }

  #noteOffsets(): void {
    const { output, hooks } = this.record;
    const [outputAt, hooksAt] = [this.#output.offset(), this.#hookLines.offset()];
    if (output.offset === outputAt && hooks.offset === hooksAt) return;
    this.setRecord({
      ...this.record,
      output: { ...output, offset: outputAt },
      hooks: { ...hooks, offset: hooksAt },
    });
  }
}
