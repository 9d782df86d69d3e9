import { silentLog } from "@mig/kit";
import { isFinished, isTerminal, reachabilityAfter } from "@mig/lifecycle";
import {
  type Command,
  type CommandAnswer,
  type CommandType,
  type EventAck,
  isCommandType,
  isEventType,
  type VmEvent,
} from "@mig/protocol";
import { recognize } from "../../apps/controller/src/boot/begin-life.ts";
import { expireCommands, returnToQueue } from "../../apps/controller/src/commands/expire.ts";
import { move } from "../../apps/controller/src/commands/move.ts";
import { pickNext } from "../../apps/controller/src/commands/pick-next.ts";
import { queueCommand } from "../../apps/controller/src/commands/queue.ts";
import { contextOf, type FlowContext, type Rules } from "../../apps/controller/src/context.ts";
import { judgeEvent } from "../../apps/controller/src/events/judge.ts";
import { recordEvent } from "../../apps/controller/src/events/record.ts";
import { applyReport, hear } from "../../apps/controller/src/heartbeat/apply-beat.ts";
import { answers, life } from "../../apps/controller/src/life.ts";
import { wantRunner } from "../../apps/controller/src/runner/want-runner.ts";
import { writeOff } from "../../apps/controller/src/shutdown/close-vm.ts";
import type {
  CommandRow,
  EventRow,
  IncarnationRow,
  JobRow,
  VmRow,
} from "../../apps/controller/src/store/rows.ts";
import { Unit } from "../../apps/controller/src/store/unit.ts";
import { must, type World } from "./world.ts";

/** What a session can be told: the agent's end of the channel. */
export interface AgentEnd {
  command(command: Command): void;
  lost(): void;
}

const rules: Rules = { commandExpiryMs: 3_600_000, commandAckMs: 10_000, registrationsMax: 3 };
export const silence = { unreachableAfterMs: 45_000, lostAfterMs: 120_000, lostWithJobAfterMs: 300_000 };
const graceMs = 30_000;
const names = { poolId: "p", orgId: "o", restarted: () => false };

/**
 * The controller's own decisions (flows, spines, tables) over rows in memory, which are its database: they survive
 * when it restarts, its sessions do not. What `session/` and the listeners add is told again here in a few lines.
 */
export class ControllerSide {
  readonly vmId = "vm-1";
  readonly events: EventRow[] = [];
  readonly commands: CommandRow[] = [];
  vm: VmRow | undefined;
  readonly #world: World;
  readonly #jobs: JobRow[] = [];
  readonly #cursors = new Map<string, IncarnationRow>();
  readonly #ends = new Map<string, string>();
  #session: { epoch: number; end: AgentEnd } | undefined;
  #judgeFromMs: number;
  #heardAtMs = 0;

  constructor(world: World) {
    this.#world = world;
    this.#judgeFromMs = world.nowMs + graceMs;
    this.#sweep();
  }

  restart(): void {
    this.#session = undefined;
    this.#judgeFromMs = this.#world.nowMs + graceMs;
  }

  take(events: readonly VmEvent[]): EventAck {
    let ack: EventAck = { incarnation: "", upToSeq: 0, rejected: [] };
    this.#unit((unit) => {
      for (const event of events) {
        const speaker = { ...names, vmId: this.vmId, incarnation: event.incarnation };
        const { context, cursor, current } = recognize(unit, speaker, rules, silentLog);
        if (current) hear(context);
        const judged = judgeEvent(event, cursor.ackedSeq);
        if (judged.verdict === "store") {
          recordEvent(context, event, cursor, null);
          if (current && isEventType(event.type)) life[event.type](context, event);
        }
        must(judged.verdict !== "refuse", "E2", () => `${event.type} was refused for good`);
        ack = {
          incarnation: cursor.incarnation,
          upToSeq: cursor.ackedSeq,
          rejected: judged.verdict === "gap" ? [judged.rejection] : [],
        };
      }
    });
    this.#wake();
    return ack;
  }

  /** False: this incarnation was written off. */
  beat(incarnation: string, migletState: string, runs: boolean): boolean {
    let isKnown = true;
    this.#unit((unit) => {
      const { context, current } = recognize(
        unit,
        { ...names, vmId: this.vmId, incarnation },
        rules,
        silentLog,
      );
      isKnown = current && !isTerminal(context.vm.state);
      if (!isKnown) return;
      hear(context);
      applyReport(context, migletState, runs);
      wantRunner(context);
    });
    this.#wake();
    return isKnown;
  }

  /** The epoch, or undefined when the incarnation was written off. */
  connect(incarnation: string, migletState: string, end: AgentEnd): number | undefined {
    let epoch: number | undefined;
    this.#unit((unit) => {
      const { context, current } = recognize(
        unit,
        { ...names, vmId: this.vmId, incarnation },
        rules,
        silentLog,
      );
      const { vm, nowMs } = context;
      if (!current || isTerminal(vm.state)) return;
      hear(context);
      vm.protocolVersion = 1;
      vm.sessionEpoch += 1;
      epoch = vm.sessionEpoch;
      applyReport(context, migletState, false);
      for (const command of unit.openCommands(this.vmId))
        if (command.state === "sent") returnToQueue(command, nowMs, nowMs);
      wantRunner(context);
    });
    if (epoch !== undefined) this.#session = { epoch, end };
    this.#wake();
    return epoch;
  }

  disconnect(epoch: number): void {
    if (this.#session?.epoch === epoch) this.#session = undefined;
  }

  answer(answer: CommandAnswer): void {
    this.#unit((unit) => {
      const { vm } = this;
      const command = unit.command(answer.commandId);
      if (vm === undefined || command === undefined) return;
      const context = contextOf(unit, vm, rules, silentLog);
      hear(context);
      const input = answer.success
        ? answer.stage === "received"
          ? "received"
          : "succeed"
        : answer.result?.["refused"] === true
          ? "reject"
          : "fail";
      if (move(command, input, unit.nowMs, answer.message, answer.result) && isCommandType(command.type))
        answers[command.type](context, command, answer);
    });
    this.#wake();
  }

  order(type: CommandType, parameters = {}): void {
    this.#unit((unit) => {
      if (this.vm !== undefined)
        queueCommand(this.#context(unit, this.vm), { type, parameters, by: "operator" });
    });
    this.#wake();
  }

  #wake(): void {
    const session = this.#session;
    if (session === undefined) return;
    let taken: Command | undefined;
    this.#unit((unit) => {
      const next = pickNext(unit.openCommands(this.vmId), unit.nowMs);
      if (next === undefined || this.vm?.sessionEpoch !== session.epoch) return;
      move(next, "send", unit.nowMs);
      next.sessionEpoch = session.epoch;
      const grant = { registration_token: "t", runner_url: "https://github.test/acme" };
      taken = {
        id: next.id,
        type: next.type,
        parameters: next.type === "register_runner" ? grant : next.parameters,
        createdAtMs: next.createdAtMs,
        attempt: next.attempt,
      };
    });
    const command = taken;
    if (command !== undefined) this.#world.send(() => session.end.command(command));
  }

  #sweep(): void {
    this.#world.after(1_000, () => this.#sweep());
    const { vm } = this;
    if (vm === undefined) return;
    this.#unit((unit) => {
      const context = this.#context(unit, vm);
      expireCommands(context);
      if (this.#world.nowMs < this.#judgeFromMs || isTerminal(vm.state)) return;
      const silentMs = unit.nowMs - vm.lastSeenMs;
      const verdict = reachabilityAfter(silentMs, vm.currentJob !== null, silence);
      if (verdict === "online") return;
      must(
        unit.nowMs - this.#heardAtMs >= silence.unreachableAfterMs,
        "S1",
        () => `called ${verdict} though it was heard`,
      );
      if (verdict === "lost") writeOff(context);
      else vm.reachability = "unreachable";
      const isLate = silentMs >= silence.lostWithJobAfterMs + 2_000;
      must(!isLate || isTerminal(vm.state), "S2", () => `still ${vm.state} after ${silentMs} ms of silence`);
    });
    this.#wake();
  }

  #context(unit: Unit, vm: VmRow): FlowContext {
    return contextOf(unit, vm, rules, silentLog);
  }

  /** One transaction: everything or nothing, and nothing in between can be seen. */
  #unit(decide: (unit: Unit) => void): void {
    const { nowMs } = this.#world;
    const unit = new Unit(nowMs);
    if (this.vm !== undefined) unit.addVm(this.vm);
    for (const command of this.commands) unit.addCommand(command);
    for (const job of this.#jobs) unit.addJob(job);
    for (const cursor of this.#cursors.values()) unit.addIncarnation(cursor);
    const seenBefore = this.vm?.lastSeenMs;
    decide(unit);
    this.vm = unit.vm(this.vmId);
    if (this.vm === undefined) return;
    if (this.vm.lastSeenMs !== seenBefore) this.#heardAtMs = nowMs;
    for (const row of unit.openCommands(this.vmId)) if (!this.commands.includes(row)) this.commands.push(row);
    const job = unit.openJob(this.vmId);
    if (job !== undefined && !this.#jobs.includes(job)) this.#jobs.push(job);
    const cursor = unit.incarnation(this.vmId, this.vm.incarnation);
    if (cursor !== undefined) this.#cursors.set(cursor.incarnation, cursor);
    for (const event of unit.events) this.#store(event);
    this.#checkEnd(this.vm);
    const inFlight = this.commands.filter(({ state }) => state === "sent").length;
    must(inFlight <= 1, "C3", () => `${inFlight} commands are in flight`);
  }

  readonly #stored = new Map<string, number>();

  #store(event: EventRow): void {
    const last = this.#stored.get(event.incarnation) ?? 0;
    must(
      event.seq === last + 1,
      "E1, E3",
      () => `seq ${event.seq} stored after ${last} of ${event.incarnation}`,
    );
    this.#stored.set(event.incarnation, last + 1);
    this.events.push(event);
  }

  #checkEnd(vm: VmRow): void {
    const ended = this.#ends.get(vm.incarnation);
    must(ended === undefined || ended === vm.state, "S3", () => `${ended} became ${vm.state}`);
    if (isTerminal(vm.state)) this.#ends.set(vm.incarnation, vm.state);
  }

  storedUpTo(incarnation: string): number {
    return this.#stored.get(incarnation) ?? 0;
  }

  openCommands(): CommandRow[] {
    return this.commands.filter(({ state }) => !isFinished(state));
  }
}
