import type { AgentState } from "@mig/lifecycle";
import { expect, it } from "vitest";
import { begin } from "../../apps/miglet/src/life/resume.ts";
import type { Effect, Input, Rules, State, Timer } from "../../apps/miglet/src/life/words.ts";
import { step } from "../../apps/miglet/src/life.ts";
import { drainRunner, type Verdict } from "../../apps/miglet/src/shutdown/drain.ts";
import { RunnerModel, type Watched, WatchedRunner } from "./runner-model.ts";
import { must, World } from "./world.ts";

/**
 * The promise that no peer makes: whatever comes together, assignment, drain, shutdown, idleness, preemption, crash
 * and reconnect, no job is stopped unless somebody ordered to stop it by force, and after a `drained` receipt none
 * begins. The agent's own life, drain and judge of evidence, over a model of GitHub and the runner with its gaps.
 */
const rules: Rules = {
  vmId: "vm-1",
  labels: [],
  reuse: false,
  heartbeatIntervalMs: 15_000,
  logLevel: "info",
  registrationsMax: 3,
  retryFirstMs: 1_000,
  retryCapMs: 30_000,
  listenWithinMs: 3_000,
  forceAfterMs: 300_000,
  graceMs: 30_000,
  aloneMs: 3_600_000,
  idleMs: 40_000,
};

interface Process {
  state: State;
  timers: Map<Timer, () => void>;
  runner: WatchedRunner | undefined;
  /** While a start is under way. */
  giveUpStart?: (() => void) | undefined;
}

class Vm {
  readonly #world: World;
  readonly disk: { state: AgentState; draining: boolean; runner?: unknown; job?: unknown; ending?: never } = {
    state: "initializing",
    draining: false,
  };
  model: RunnerModel | undefined;
  #watched: Watched | undefined;
  #process: Process | undefined;
  readonly #interrupted = new Map<string, string>();
  exitCode: number | undefined;
  /** A promise that was broken where nobody could throw it on. */
  broken: unknown;
  receipts = 0;

  #starts = 0;

  constructor(world: World) {
    this.#world = world;
    this.#begin(false);
  }

  get at(): string | undefined {
    return this.#process?.state.at;
  }

  feed(input: Input): void {
    const mine = this.#process;
    if (mine === undefined) return;
    const next = step(mine.state, input);
    mine.state = next.state;
    for (const effect of next.effects) {
      if (this.#process !== mine) return;
      this.#do(effect, mine);
    }
  }

  order(type: string, parameters: Record<string, string | boolean>): void {
    if (this.#process === undefined) return;
    if (parameters["force"] === true && this.model !== undefined) this.model.isForced = true;
    this.#starts += 1;
    const id = `c-${this.#starts}`;
    this.#interrupted.set(id, type);
    this.feed({ on: "command", command: { id, type, parameters, createdAtMs: 0, attempt: 1 } });
  }

  /** The controller asks GitHub when it can; then the agent knows. */
  verdict(): Verdict {
    if (this.#world.chance(0.3) || this.model === undefined) return "unknown";
    return this.model.remove();
  }

  disturb(): void {
    const roll = this.#world.random();
    if (roll < 0.25) this.order("drain", { registration: this.verdict() });
    else if (roll < 0.35) this.order("shutdown", {});
    else if (roll < 0.38) this.order("shutdown", { force: true });
    else if (roll < 0.55) this.crash();
    else if (roll < 0.65) this.feed({ on: "preempted", notice: { cloud: "gcp", action: "preempted" } });
    else if (roll < 0.75) this.feed({ on: "low", resource: "disk", freeMib: 1, neededMib: 2 });
    else if (roll < 0.8) this.feed({ on: "timer", timer: "lifetime" });
    else {
      this.feed({ on: "link_down" });
      this.feed({ on: "link_up" });
    }
  }

  crash(): void {
    const mine = this.#process;
    if (mine === undefined || this.exitCode !== undefined) return;
    for (const cancel of mine.timers.values()) cancel();
    void mine.runner?.release();
    this.#watched = mine.runner?.watched ?? this.#watched;
    this.#process = undefined;
    this.#world.after(this.#world.between(1, 30_000), () => this.#begin(true));
  }

  #begin(isRestart: boolean): void {
    const { disk } = this;
    const resumed = isRestart && disk.state !== "initializing";
    const runner =
      resumed && this.model !== undefined && disk.runner !== undefined ? this.#watch(this.model) : undefined;
    const first = begin(
      {
        resumed,
        lastState: disk.state,
        draining: disk.draining,
        interrupted: [...this.#interrupted].map(([id, type]) => ({ id, type })),
        problems: [],
        ...(runner === undefined
          ? {}
          : {
              runner: {
                identity: { name: "r-1", labels: [] },
                listened: this.#watched?.evidence.hasListened ?? false,
                isBusy: runner.isBusy(),
              },
            }),
        ...(resumed && disk.job !== undefined ? { job: disk.job as never } : {}),
      },
      rules,
    );
    const mine = { state: first.state, timers: new Map<Timer, () => void>(), runner };
    this.#process = mine;
    for (const effect of first.effects) if (this.#process === mine) this.#do(effect, mine);
  }

  #watch(model: RunnerModel): WatchedRunner {
    return new WatchedRunner(this.#world, model, this.#watched, (what) => {
      if ("meaning" in what) this.feed({ on: "runner_exited", exit: what });
      else this.feed({ on: "observed", observation: what });
    });
  }

  #later(mine: object, delayMs: number, run: () => void): () => void {
    return this.#world.after(delayMs, () => {
      if (this.#process === mine) run();
    });
  }

  /** As keep-runner.ts does before anything else is done about the runner. */
  #giveUpStart(mine: Process): void {
    if (mine.giveUpStart === undefined) return;
    mine.giveUpStart();
    mine.giveUpStart = undefined;
    const problem = { code: "runner_start_failed", message: "Given up." } as const;
    this.#later(mine, 1, () => this.feed({ on: "runner_failed", problem, isRetryable: true }));
  }

  #do(effect: Effect, mine: Process): void {
    const world = this.#world;
    switch (effect.do) {
      case "check_prerequisites":
        this.#later(mine, 5, () => this.feed({ on: "checked" }));
        return;
      case "announce":
        this.#later(mine, world.between(5, 500), () => this.feed({ on: "announced" }));
        return;
      case "open_link":
        this.#later(mine, world.between(5, 2_000), () => {
          this.feed({ on: "link_up" });
          if (this.at === "ready") this.order("register_runner", { jit_config: "e30=" });
        });
        return;
      case "start_runner":
        mine.giveUpStart = this.#later(mine, world.between(10, 2_000), () => {
          mine.giveUpStart = undefined;
          must(this.model === undefined || !this.model.isListenerAlive, "T1", () => "two runners at once");
          this.model = new RunnerModel(world, () => {
            if (world.chance(0.6)) world.after(world.between(0, 5_000), () => this.disturb());
          });
          this.#watched = undefined;
          this.disk.runner = true;
          mine.runner = this.#watch(this.model);
          this.feed({ on: "runner_started", runner: { name: "r-1", labels: [] } });
        });
        return;
      case "drain_runner": {
        this.#giveUpStart(mine);
        const verdict = effect.verdict === "unknown" && world.chance(0.6) ? this.verdict() : effect.verdict;
        drainRunner(mine.runner, verdict)
          .then((outcome) => {
            if (this.#process === mine) this.feed({ on: "runner_drained", outcome });
          })
          .catch((error: unknown) => {
            this.broken ??= error;
          });
        return;
      }
      case "interrupt_runner":
        this.#giveUpStart(mine);
        mine.runner?.expectEnd("stopped");
        mine.runner?.interrupt();
        return;
      case "kill_runner":
        this.#giveUpStart(mine);
        mine.runner?.kill().catch((error: unknown) => {
          this.broken ??= error;
        });
        return;
      case "finish":
      case "refuse": {
        const id = effect.do === "finish" ? effect.commandId : effect.command.id;
        this.#interrupted.delete(id);
        if (effect.do === "finish" && effect.outcome.result?.["drained"] === true) {
          this.receipts += 1;
          if (this.model !== undefined) {
            this.model.isReceiptGiven = true;
            must(
              !this.model.isWorkerAlive && this.model.job !== "acquired",
              "drained",
              () => "a receipt while a job runs",
            );
          }
        }
        return;
      }
      case "set_timer": {
        mine.timers.get(effect.timer)?.();
        const { timer } = effect;
        mine.timers.set(
          timer,
          this.#later(mine, effect.afterMs, () => this.feed({ on: "timer", timer })),
        );
        return;
      }
      case "cancel_timer":
        mine.timers.get(effect.timer)?.();
        return;
      case "remember":
        Object.assign(this.disk, effect.change);
        return;
      case "flush":
        this.#later(mine, 100, () => this.feed({ on: "flushed" }));
        return;
      case "last_words":
        this.#later(mine, 100, () => this.feed({ on: "last_words_said" }));
        return;
      case "exit":
        this.exitCode = effect.code;
        this.#process = undefined;
        return;
      default:
        return;
    }
  }
}

/** Promises settle between two moments of virtual time. */
const settle = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

async function live(seed: number): Promise<Vm> {
  const world = new World(seed, 600_000);
  const vm = new Vm(world);
  const disturb = (): void => {
    vm.disturb();
    world.after(world.between(100, 120_000), disturb);
  };
  world.after(world.between(100, 90_000), disturb);
  const untilMs = world.nowMs + 3_600_000;
  while (vm.exitCode === undefined && world.nowMs < untilMs) {
    let hasRun = false;
    world.run(untilMs, () => {
      hasRun = true;
      return true;
    });
    if (!hasRun) break;
    await settle();
    if (vm.broken !== undefined) throw vm.broken;
  }
  return vm;
}

const livesOf = (name: string): number => Number(process.env[name] ?? 1_500);

it("no job is stopped without an order to stop it, and none begins after a receipt", async () => {
  let [receipts, finished, over] = [0, 0, 0];
  for (let seed = 1; seed <= livesOf("MIG_TEST_SAFETY_LIVES"); seed += 1) {
    const vm = await live(seed).catch((error: unknown) => {
      throw new Error(`life ${seed}: ${String(error)}`, { cause: error });
    });
    receipts += vm.receipts;
    if (vm.model?.job === "finished") finished += 1;
    if (vm.exitCode !== undefined) over += 1;
  }
  // The promise is empty unless both happen often.
  expect(receipts).toBeGreaterThan(100);
  expect(finished).toBeGreaterThan(100);
  expect(over).toBeGreaterThan(1_000);
}, 120_000);
