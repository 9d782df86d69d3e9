import { isBusy, type JobEvidence, judge, noEvidence } from "../../apps/miglet/src/runner/evidence.ts";
import type { JobObservation, Moment } from "../../apps/miglet/src/runner/evidence-words.ts";
import type { RunnerExit } from "../../apps/miglet/src/runner/exit.ts";
import type { NotedRecord, RunnerFacts, SupervisedRunner } from "../../apps/miglet/src/runner/supervise.ts";
import { must, type World } from "./world.ts";

/**
 * GitHub, one Listener and its Worker, with the gaps between them that make drains dangerous (runner-contract §3.9):
 * a job is dispatched, then its message is received, then it is acquired, and only then GitHub calls the runner busy;
 * a deletion is noticed at the next poll; SIGINT cancels whatever has been acquired.
 *
 * What was written down (perf log, output, hooks) survives the agent; who watches it does not.
 */
export class RunnerModel {
  readonly #world: World;
  readonly #onDispatch: () => void;
  isRegistered = true;
  isBusyAtGithub = false;
  isListenerAlive = true;
  /** Until SIGINT, which ends the long poll at once (runner-contract §3.5). */
  isPolling = true;
  isWorkerAlive = false;
  job: "none" | "dispatched" | "received" | "acquired" | "finished" | "lost" = "none";
  /** What a watcher can read, in order. */
  readonly written: ("listening" | "message" | "running" | "hook" | "completed")[] = [];
  readonly #ended: (() => void)[] = [];
  /** Somebody ordered to stop whatever runs. */
  isForced = false;
  /** A receipt was given: nothing runs here and nothing will. */
  isReceiptGiven = false;

  /** `onDispatch` is called when the dangerous seconds begin. */
  constructor(world: World, onDispatch: () => void) {
    this.#world = world;
    this.#onDispatch = onDispatch;
    const { between } = world;
    const roll = between.bind(world);
    world.after(roll(200, 4_000), () => this.#write("listening"));
    world.after(roll(200, 40_000), () => this.#dispatch());
  }

  #write(what: RunnerModel["written"][number]): void {
    if (this.isListenerAlive) this.written.push(what);
  }

  #dispatch(): void {
    if (!this.isRegistered || !this.isListenerAlive) return;
    if (!this.written.includes("listening")) {
      this.#world.after(1_000, () => this.#dispatch());
      return;
    }
    this.job = "dispatched";
    this.#onDispatch();
    this.#world.after(this.#world.between(1, 3_000), () => {
      if (!this.isPolling || !this.isListenerAlive) {
        this.job = "lost"; // Nobody received it: GitHub gives it to another runner within a minute.
        return;
      }
      this.job = "received";
      this.#write("message");
      this.#world.after(this.#world.between(1, 1_500), () => this.#acquire());
    });
  }

  #acquire(): void {
    if (!this.isPolling || !this.isListenerAlive || !this.isRegistered) {
      this.job = "lost";
      return;
    }
    must(!this.isReceiptGiven, "drained", () => "a job began after the receipt");
    this.job = "acquired";
    this.isBusyAtGithub = true;
    this.#write("running");
    this.#world.after(this.#world.between(1, 800), () => {
      if (!this.isListenerAlive) return;
      this.isWorkerAlive = true;
      this.#world.after(this.#world.between(10, 5_000), () => this.isWorkerAlive && this.#write("hook"));
      this.#world.after(this.#world.between(50, 200_000), () => this.#finish());
    });
  }

  #finish(): void {
    if (!this.isWorkerAlive) return;
    this.isWorkerAlive = false;
    this.job = "finished";
    this.isBusyAtGithub = false;
    this.isRegistered = false;
    this.#write("completed");
    this.#world.after(this.#world.between(1, 2_000), () => this.end());
  }

  /** DELETE …/runners/{id}. */
  remove(): "removed" | "busy" {
    if (this.isBusyAtGithub) return "busy";
    if (!this.isRegistered) return "removed";
    this.isRegistered = false;
    // The Listener learns of it at its next poll, unless a message keeps it.
    this.#world.after(this.#world.between(1, 50_000), () => {
      if (this.job !== "acquired") this.end();
    });
    return "removed";
  }

  signal(what: "SIGINT" | "SIGKILL"): void {
    if (!this.isListenerAlive && !this.isWorkerAlive) return;
    must(
      this.isForced || !(this.job === "received" || this.job === "acquired" || this.isWorkerAlive),
      "no job is stopped by accident",
      () => `${what} while its job is ${this.job}`,
    );
    this.isWorkerAlive = false;
    this.isPolling = false;
    if (this.job === "acquired" || this.job === "received") this.job = "lost";
    this.isBusyAtGithub = false;
    if (what === "SIGKILL") this.end();
    else this.#world.after(this.#world.between(1, 3_000), () => this.end());
  }

  end(): void {
    if (!this.isListenerAlive) return;
    this.isListenerAlive = false;
    for (const run of this.#ended.splice(0)) run();
  }

  onEnd(run: () => void): void {
    if (this.isListenerAlive) this.#ended.push(run);
    else run();
  }
}

/** What a watcher of an earlier process knew; the supervision keeps it in its record. */
export interface Watched {
  evidence: JobEvidence;
  read: number;
}

const bounds = { identityMs: 5_000, goneMs: 5_000, ghostMs: 120_000 };

/** The supervision in virtual time: the agent's own judge over what the model has written and what lives. */
export class WatchedRunner implements SupervisedRunner {
  readonly record = { name: "r-1", pid: 100 } as NotedRecord;
  readonly #world: World;
  readonly #model: RunnerModel;
  readonly #tell: (what: JobObservation | RunnerExit) => void;
  readonly watched: Watched;
  #isReleased = false;
  #hasEnded = false;
  readonly #waiting: (() => void)[] = [];
  #expected: "removed" | "stopped" | undefined;

  constructor(
    world: World,
    model: RunnerModel,
    watched: Watched | undefined,
    tell: (what: JobObservation | RunnerExit) => void,
  ) {
    this.#world = world;
    this.#model = model;
    this.#tell = tell;
    this.watched = watched ?? { evidence: noEvidence(), read: 0 };
    const look = (): void => {
      if (this.#isReleased || this.#hasEnded) return;
      this.#look();
      world.after(500, look);
    };
    world.after(1, look);
    model.onEnd(() => world.after(1, () => this.#end()));
  }

  #at(): Moment {
    return { wallMs: this.#world.nowMs, monoMs: this.#world.nowMs };
  }

  #take(evidence: Parameters<typeof judge>[1]): void {
    const { state, observations } = judge(this.watched.evidence, evidence, bounds);
    this.watched.evidence = state;
    for (const one of observations) this.#tell(one);
  }

  #look(): void {
    const at = this.#at();
    const stamp = "2026-08-17 14:15:44Z";
    for (const what of this.#model.written.slice(this.watched.read)) {
      this.watched.read += 1;
      if (what === "listening") this.#take({ kind: "line", text: `${stamp}: Listening for Jobs`, at });
      if (what === "message") this.#take({ kind: "perf", counter: "MessageReceived_RunnerJobRequest", at });
      if (what === "running") this.#take({ kind: "line", text: `${stamp}: Running job: a`, at });
      if (what === "hook") this.#take({ kind: "hook", hook: "started", job: { jobId: "a", runId: "7" }, at });
      if (what === "completed")
        this.#take({ kind: "line", text: `${stamp}: Job a completed with result: Succeeded`, at });
    }
    this.#take({ kind: "worker", present: this.#model.isWorkerAlive, at });
  }

  #end(): void {
    if (this.#isReleased || this.#hasEnded) return;
    this.#look();
    this.#take({ kind: "exit", isCrash: false, exitCode: 0, at: this.#at() });
    this.#hasEnded = true;
    const didJob = this.#model.job === "finished";
    const meaning = didJob ? "done" : this.#expected === "stopped" ? "stopped" : "removed";
    this.#tell({ meaning, ranJob: didJob, exitCode: 0, message: "It ended." });
    for (const run of this.#waiting.splice(0)) run();
  }

  isAlive(): boolean {
    return this.#model.isListenerAlive;
  }
  isBusy(): boolean {
    return isBusy(this.watched.evidence);
  }
  async checkBusy(): Promise<boolean> {
    this.#look();
    return this.isBusy();
  }
  async checkFacts(): Promise<RunnerFacts> {
    this.#look();
    const { phase, worker, hasRunningLine, hasHook, hasStalled } = this.watched.evidence;
    return {
      job: phase,
      worker,
      hasJobMessage: phase === "latched",
      hasRunningLine,
      hook: hasHook ? "started" : "none",
      hasStalled,
      unseen: [],
    };
  }
  currentJob(): undefined {
    return undefined;
  }
  interrupt(): void {
    this.#model.signal("SIGINT");
  }
  async kill(): Promise<void> {
    this.#model.signal("SIGKILL");
  }
  whenEnded(withinMs: number): Promise<boolean> {
    if (this.#hasEnded) return Promise.resolve(true);
    return new Promise((resolve) => {
      this.#waiting.push(() => resolve(true));
      this.#world.after(withinMs, () => resolve(false));
    });
  }
  expectEnd(why: "removed" | "stopped"): void {
    this.#expected = why;
  }
  async release(): Promise<void> {
    this.#isReleased = true;
  }
}
