import type { AgentState } from "@mig/lifecycle";
import {
  type Command,
  type CommandAnswer,
  type EventType,
  type JobData,
  type JsonObject,
  maybe,
  type VmEvent,
} from "@mig/protocol";
import { begin } from "../../apps/miglet/src/life/resume.ts";
import type { Effect, Input, Rules, State, Timer } from "../../apps/miglet/src/life/words.ts";
import { step } from "../../apps/miglet/src/life.ts";
import type { RunnerRecord } from "../../apps/miglet/src/memory/state-file.ts";
import type { JobObservation } from "../../apps/miglet/src/runner/evidence.ts";
import { reportOf } from "../../apps/miglet/src/status.ts";
import type { ControllerSide } from "./controller-side.ts";
import { must, type World } from "./world.ts";

const rules: Rules = {
  vmId: "vm-1",
  labels: [],
  reuse: false,
  heartbeatIntervalMs: 15_000,
  logLevel: "info",
  registrationsMax: 3,
  retryFirstMs: 1_000,
  retryCapMs: 30_000,
  listenWithinMs: 300_000,
  forceAfterMs: 300_000,
  graceMs: 30_000,
  aloneMs: 3_600_000,
  idleMs: 1_800_000,
};
const job: JobData = { jobId: "build", runId: "7" };

/** What is on the VM's disk. */
interface Disk {
  incarnation: string;
  state: AgentState;
  draining: boolean;
  runner?: RunnerRecord | undefined;
  failedRegistrations?: number;
  job?: JobData | undefined;
  /** Not yet acknowledged, of this incarnation and of earlier ones. */
  spool: VmEvent[];
  seq: number;
  journal: Map<string, { type: string; answer?: CommandAnswer }>;
}

/** A runner that lives on its own: what it did, in order, for whoever reads it. */
interface Runner {
  alive: boolean;
  told: (JobObservation | "exit")[];
}

/**
 * One VM: the agent's real `step` with a made-up host. The disk and the runner outlive the process; the process may
 * crash between any two effects and comes back. Nothing here decides: it does what effects say and tells inputs.
 */
export class AgentSide {
  readonly #world: World;
  readonly #controller: ControllerSide;
  readonly disk: Disk;
  #boots = 1;
  #runner: Runner | undefined;
  /** Undefined while no process runs. Callbacks of a process that has crashed do nothing. */
  #process: { state: State; timers: Map<Timer, () => void> } | undefined;
  #linkWanted = false;
  #epoch: number | undefined;
  #beating = false;
  #sending = false;
  #waiting: { seq: number; run: () => void }[] = [];
  exitCode: number | undefined;
  exitedAtMs = 0;
  hasVanished = false;
  readonly started = new Map<string, number>();
  readonly #received: string[] = [];
  jobsRun = 0;
  jobsForced = 0;

  constructor(world: World, controller: ControllerSide) {
    this.#world = world;
    this.#controller = controller;
    this.disk = {
      incarnation: "boot-1",
      state: "initializing",
      draining: false,
      spool: [],
      seq: 0,
      journal: new Map(),
    };
    this.#start(false);
  }

  get state(): State | undefined {
    return this.#process?.state;
  }

  crash(): void {
    const crashed = this.#process;
    if (crashed === undefined) return;
    for (const cancel of crashed.timers.values()) cancel();
    this.#process = undefined;
    if (this.#epoch !== undefined) this.#controller.disconnect(this.#epoch);
    this.#epoch = undefined;
    this.#linkWanted = false;
    this.#beating = false;
    this.#sending = false;
    this.#waiting = [];
    this.#world.after(this.#world.between(10, 20_000), () => this.#start(true));
  }

  /** The machine starts again: another incarnation, and whatever ran is gone. */
  reboot(): void {
    if (this.#process === undefined) return;
    this.crash();
    this.#boots += 1;
    if (this.#runner !== undefined) this.#runner.alive = false;
    this.#runner = undefined;
    Object.assign(this.disk, {
      incarnation: `boot-${this.#boots}`,
      state: "initializing",
      draining: false,
      failedRegistrations: 0,
      seq: 0,
    });
    this.disk.runner = undefined;
    this.disk.job = undefined;
  }

  /** The machine is gone for good, without a word. */
  vanish(): void {
    if (this.exitCode !== undefined) return;
    this.hasVanished = true;
    this.crash();
    if (this.#runner !== undefined) this.#runner.alive = false;
  }

  cutLink(): void {
    if (this.#epoch === undefined) return;
    this.#epoch = undefined;
    this.#feed({ on: "link_down" });
    this.#later(this.#world.between(100, 15_000), () => this.#connect());
  }

  signal(count: number): void {
    this.#feed({ on: "signal", count, exitCode: 143 });
  }

  #start(isRestart: boolean): void {
    if (this.exitCode !== undefined || this.hasVanished || this.#process !== undefined) return;
    const { disk } = this;
    const resumed = isRestart && disk.state !== "initializing";
    const record = resumed ? disk.runner : undefined;
    const runner = this.#runner;
    const first = begin(
      {
        resumed,
        lastState: disk.state,
        draining: disk.draining,
        interrupted: [...disk.journal].flatMap(([id, entry]) =>
          entry.answer === undefined ? [{ id, type: entry.type }] : [],
        ),
        problems: [],
        ...(record === undefined
          ? {}
          : {
              runner: {
                identity: { name: record.name, labels: [] },
                listened: record.listened,
                isBusy: runner !== undefined && isBusy(runner),
                ...(record.commandId === undefined ? {} : { commandId: record.commandId }),
              },
            }),
        ...(resumed && disk.job !== undefined ? { job: disk.job } : {}),
        ...(resumed ? maybe("failedRegistrations", disk.failedRegistrations) : {}),
      },
      rules,
    );
    this.#process = { state: first.state, timers: new Map() };
    this.#perform(first.effects);
    if (record !== undefined) this.#follow();
  }

  #feed(input: Input): void {
    const now = this.#process;
    if (now === undefined) return;
    const next = step(now.state, input);
    now.state = next.state;
    this.#perform(next.effects);
  }

  /** For this process only. */
  #later(delayMs: number, run: () => void): () => void {
    const mine = this.#process;
    return this.#world.after(delayMs, () => {
      if (this.#process === mine && mine !== undefined) run();
    });
  }

  #perform(effects: readonly Effect[]): void {
    for (const effect of effects) {
      if (this.#process === undefined) return;
      this.#do(effect);
      if (this.#world.isFaulty && this.#world.chance(0.002)) this.crash();
    }
  }

  #do(effect: Effect): void {
    const { disk } = this;
    switch (effect.do) {
      case "check_prerequisites":
        this.#later(10, () => this.#feed({ on: "checked" }));
        return;
      case "announce":
        this.#beatOn();
        this.#whenAcknowledged(undefined, () => this.#feed({ on: "announced" }));
        return;
      case "open_link":
        this.#beatOn();
        if (!this.#linkWanted) this.#later(1, () => this.#connect());
        this.#linkWanted = true;
        return;
      case "send_events":
        this.#pump();
        return;
      case "emit":
        this.#emit(effect.type, effect.data);
        return;
      case "receive": {
        const { id, type } = effect.command;
        must(!this.#received.includes(id), "C1", () => `${type} ${id} was received twice`);
        this.#received.push(id);
        disk.journal.set(id, { type });
        this.#answer({ commandId: id, stage: "received", success: true });
        return;
      }
      case "finish":
        this.#finish(effect.commandId, { commandId: effect.commandId, stage: "result", ...effect.outcome });
        return;
      case "refuse": {
        const { command, message } = effect;
        this.#finish(command.id, {
          commandId: command.id,
          stage: "result",
          success: false,
          message,
          result: { refused: true },
        });
        return;
      }
      case "start_runner":
        this.#startRunner(effect);
        return;
      case "drain_runner":
        this.#later(this.#world.between(1, 2_000), () => this.#drain());
        return;
      case "interrupt_runner":
      case "kill_runner":
        if (this.#runner?.alive === true) {
          if (isBusy(this.#runner)) this.jobsForced += 1;
          this.#endRunner(this.#runner);
        } else if (this.#runner === undefined) this.#giveUpStart();
        return;
      case "set_timer": {
        this.#process?.timers.get(effect.timer)?.();
        const cancel = this.#later(effect.afterMs, () => this.#feed({ on: "timer", timer: effect.timer }));
        this.#process?.timers.set(effect.timer, cancel);
        return;
      }
      case "cancel_timer":
        this.#process?.timers.get(effect.timer)?.();
        return;
      case "collect": {
        const { commandId } = effect;
        this.#later(this.#world.between(1, 20_000), () =>
          this.#feed({ on: "collected", commandId, outcome: { success: true, result: { bytes: 1 } } }),
        );
        return;
      }
      case "beat":
        this.#beat();
        return;
      case "remember":
        Object.assign(disk, effect.change);
        return;
      case "flush":
        this.#whenAcknowledged(10_000, () => this.#feed({ on: "flushed" }));
        return;
      case "last_words": {
        const data = { reason: effect.reason };
        this.#emit("vm_shutting_down", data);
        this.#whenAcknowledged(10_000, () => {
          this.#emit("vm_terminated", data);
          this.#whenAcknowledged(10_000, () => this.#feed({ on: "last_words_said" }));
        });
        return;
      }
      case "exit":
        this.exitCode = effect.code;
        this.exitedAtMs = this.#world.nowMs;
        this.#process = undefined;
        return;
      case "set_log_level":
      case "set_heartbeat_interval":
      case "power_off":
        return;
    }
  }

  // Events: spooled, sent in order, gone when acknowledged.

  #emit(type: EventType, data: JsonObject): void {
    const { disk } = this;
    disk.seq += 1;
    const { incarnation, seq } = disk;
    disk.spool.push({
      type,
      vmId: "vm-1",
      poolId: "p",
      occurredAtMs: this.#world.nowMs,
      incarnation,
      seq,
      data,
    });
    this.#pump();
  }

  #pump(): void {
    const [first] = this.disk.spool;
    if (first === undefined || this.#sending || this.#process === undefined) return;
    this.#sending = true;
    const batch = this.disk.spool.filter(({ incarnation }) => incarnation === first.incarnation).slice(0, 5);
    // A part that overtook the rest leaves a gap, which must not be filled with it.
    if (this.#world.isFaulty && this.#world.chance(0.2))
      this.#world.send(() => this.#controller.take(batch.slice(1)));
    this.#world.send(() => {
      const ack = this.#controller.take(batch);
      this.#world.send(() => {
        const stored = this.#controller.storedUpTo(ack.incarnation);
        must(ack.upToSeq <= stored, "E1", () => `${ack.upToSeq} acknowledged, ${stored} stored`);
        this.disk.spool = this.disk.spool.filter(
          ({ incarnation, seq = 0 }) => incarnation !== ack.incarnation || seq > ack.upToSeq,
        );
        this.#sending = false;
        this.#checkWaiting();
        this.#pump();
      });
    });
    // Nobody answered: again.
    this.#later(5_000, () => {
      this.#sending = false;
      this.#pump();
    });
  }

  #whenAcknowledged(withinMs: number | undefined, then: () => void): void {
    let isDone = false;
    const once = (): void => {
      if (isDone || this.#process === undefined) return;
      isDone = true;
      then();
    };
    this.#waiting.push({ seq: this.disk.seq, run: once });
    if (withinMs !== undefined) this.#later(withinMs, once);
    this.#later(0, () => this.#checkWaiting());
  }

  #checkWaiting(): void {
    const { incarnation, spool } = this.disk;
    const first = spool.find((event) => event.incarnation === incarnation)?.seq ?? Number.POSITIVE_INFINITY;
    const due = this.#waiting.filter(({ seq }) => seq < first);
    this.#waiting = this.#waiting.filter(({ seq }) => seq >= first);
    for (const { run } of due) run();
  }

  // The link.

  #connect(): void {
    if (this.#epoch !== undefined) return;
    const mine = this.#process;
    const { incarnation } = this.disk;
    this.#world.send(() => {
      if (this.#process !== mine || mine === undefined) return;
      const epoch = this.#controller.connect(incarnation, mine.state.at, {
        command: (command) => {
          if (this.#process === mine && this.#epoch !== undefined) this.#admit(command);
        },
        lost: () => {},
      });
      if (epoch === undefined)
        return this.#feed({ on: "refused", refusal: { code: "incarnation_lost", message: "Gone." } });
      const isNew = this.#epoch === undefined;
      this.#epoch = epoch;
      if (isNew) this.#feed({ on: "link_up" });
    });
    this.#later(10_000, () => this.#connect());
  }

  #beatOn(): void {
    if (this.#beating) return;
    this.#beating = true;
    const again = (): void => {
      this.#beat();
      this.#later(15_000, again);
    };
    again();
  }

  #beat(): void {
    const mine = this.#process;
    if (mine === undefined || !this.#beating) return;
    const { migletState, runner } = reportOf(mine.state);
    const { incarnation } = this.disk;
    this.#world.send(() => {
      if (this.#controller.beat(incarnation, migletState, runner.state === "running")) return;
      if (this.#process === mine)
        this.#feed({ on: "refused", refusal: { code: "incarnation_lost", message: "Gone." } });
    });
  }

  // Commands: the inbox and its journal.

  #admit(command: Command): void {
    const known = this.disk.journal.get(command.id);
    if (known === undefined) this.#feed({ on: "command", command });
    else this.#answer(known.answer ?? { commandId: command.id, stage: "received", success: true });
  }

  #finish(id: string, answer: CommandAnswer): void {
    const known = this.disk.journal.get(id);
    must(known?.answer === undefined, "C1", () => `${id} has two results`);
    this.disk.journal.set(id, { type: known?.type ?? "", answer });
    this.#answer(answer);
  }

  #answer(answer: CommandAnswer): void {
    this.#world.send(() => this.#controller.answer(answer));
  }

  // The runner.

  #starting: (() => void) | undefined;

  #startRunner({ commandId, runner }: Effect & { do: "start_runner" }): void {
    if (commandId === undefined) throw new Error("Nobody here was told to look for a grant in metadata.");
    must(this.#runner?.alive !== true, "T1", () => "a second runner is started beside a first");
    this.started.set(commandId, (this.started.get(commandId) ?? 0) + 1);
    must(this.started.get(commandId) === 1, "C1", () => `${commandId} started two runners`);
    const cancel = this.#later(this.#world.between(500, 5_000), () => {
      this.#starting = undefined;
      if (this.#world.chance(0.15)) return this.#failStart();
      this.disk.runner = recordOf(commandId, runner.name);
      this.#feed({ on: "recorded", record: recordOf(commandId, runner.name) });
      this.#runner = { alive: true, told: [] };
      this.#live(this.#runner);
      this.#feed({ on: "runner_started", runner });
    });
    this.#starting = cancel;
  }

  #failStart(): void {
    const problem = { code: "runner_configure_failed", message: "GitHub said 500." } as const;
    this.#feed({ on: "runner_failed", problem, isRetryable: true });
  }

  #giveUpStart(): void {
    if (this.#starting === undefined) return;
    this.#starting();
    this.#starting = undefined;
    this.#later(1, () => this.#failStart());
  }

  /** What a runner does, whether an agent watches or not. */
  #live(runner: Runner): void {
    const { between } = this.#world;
    const tell = (delayMs: number, what: Runner["told"][number], then?: () => void): void => {
      this.#world.after(delayMs, () => {
        if (!runner.alive) return;
        runner.told.push(what);
        this.#follow();
        then?.();
      });
    };
    const roll = between.bind(this.#world);
    tell(roll(500, 5_000), { kind: "listening" }, () =>
      tell(roll(10, 120_000), { kind: "job_assigned", source: "stdout" }, () =>
        tell(roll(10, 5_000), { kind: "job_started", job, source: "hook", confidence: "certain" }, () =>
          tell(
            roll(100, 240_000),
            { kind: "job_completed", job, result: "succeeded", source: "hook", confidence: "certain" },
            () => {
              this.jobsRun += 1;
              this.#world.after(roll(10, 3_000), () => {
                if (runner.alive) this.#endRunner(runner);
              });
            },
          ),
        ),
      ),
    );
  }

  #endRunner(runner: Runner): void {
    runner.told.push("exit");
    runner.alive = false;
    // Its end is seen a moment later, never in the middle of what ended it.
    this.#world.after(1, () => this.#follow());
  }

  #drain(): void {
    this.#giveUpStart();
    const runner = this.#runner;
    if (runner === undefined || !runner.alive) {
      const kind = runner !== undefined && this.disk.job !== undefined ? "busy" : "drained";
      this.#feed({
        on: "runner_drained",
        outcome: kind === "busy" ? { kind } : { kind, was: "no_runner", proof: {} },
      });
      return;
    }
    if (isBusy(runner)) {
      this.#feed({ on: "runner_drained", outcome: { kind: "busy" } });
      return;
    }
    this.#endRunner(runner);
    this.#later(2, () =>
      this.#feed({ on: "runner_drained", outcome: { kind: "drained", was: "idle", proof: {} } }),
    );
  }

  /** Reads what the runner did from where the last record says. */
  #follow(): void {
    for (;;) {
      const record = this.disk.runner;
      const mine = this.#process;
      const what = record === undefined ? undefined : this.#runner?.told[record.output.offset];
      if (mine === undefined || record === undefined || what === undefined) return;
      if (what === "exit") {
        this.#seeExit();
        return;
      }
      this.#feed({ on: "observed", observation: what });
      if (this.#process !== mine) return;
      const output = { path: "o", offset: record.output.offset + 1 };
      this.#feed({ on: "recorded", record: { ...record, output, listened: true } });
    }
  }

  #seeExit(): void {
    const ranJob = this.#runner?.told.some((one) => one !== "exit" && one.kind === "job_assigned") === true;
    this.#runner = undefined;
    const meaning = ranJob ? "done" : "stopped";
    this.#feed({ on: "runner_exited", exit: { meaning, ranJob, message: "It ended." } });
  }
}

function isBusy({ told }: Runner): boolean {
  const kinds = told.map((one) => (one === "exit" ? one : one.kind));
  return kinds.includes("job_assigned") && !kinds.includes("job_completed") && !kinds.includes("exit");
}

function recordOf(commandId: string, name: string): RunnerRecord {
  const at = { path: "o", offset: 0 };
  return {
    pid: 2,
    bootId: "b",
    name,
    labels: [],
    dir: "d",
    output: at,
    hooks: at,
    listened: false,
    commandId,
  };
}
