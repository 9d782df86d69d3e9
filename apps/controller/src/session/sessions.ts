import { isTerminal, MigError } from "@mig/lifecycle";
import { type Command, type Connect, type GoAway, PRODUCT_VERSION, PROTOCOL_VERSION } from "@mig/protocol";
import { sql } from "kysely";
import { recognize } from "../boot/begin-life.ts";
import { deliverAgain } from "../commands/expire.ts";
import { applyReport, hear } from "../heartbeat/apply-beat.ts";
import { wantRunner } from "../runner/want-runner.ts";
import type { CommandRow, VmRow } from "../store/rows.ts";
import { withUnit } from "../store/unit.ts";
import { type Deliver, toMessage } from "./deliver.ts";
import type { Channel, Poll, Session, Wire } from "./desk.ts";
import { namesIn, type Parts } from "./parts.ts";
import { PollSession } from "./poll-session.ts";
import { type LiveSession, superseded } from "./registry.ts";

/**
 * A session is one live channel of one VM. It is opened by a connect (or by the first poll), counts up the VM's
 * epoch, gives back to the queue what an older session had sent and not seen acknowledged, and from then on brings
 * the VM one command at a time: it looks when it opens, when it is woken (something was queued, something was
 * acknowledged), and never otherwise. It ends when its stream ends or when a newer one takes its place.
 */
export interface Sessions {
  open(connect: Connect, channel: Channel, wire: Wire, lastSeen?: string): Promise<Session>;
  poll(vmId: string, poll: Poll, signal: AbortSignal): Promise<Command[]>;
  /** Ends poll sessions that nobody came back to. */
  dropIdlePolls(): void;
}

const pollIdleMs = 90_000;

export function createSessions(
  parts: Parts,
  deliver: Deliver,
  hearInMemory: (vmId: string) => void,
): Sessions {
  const { store, registry, rules, pace, log } = parts;
  const polls = new Map<string, PollSession>();

  /** One unit: who is it, does it begin a life, what does it say of itself, and what was under way before. */
  async function enter(
    connect: Connect,
    channel: Channel,
    lastSeen?: string,
  ): Promise<{ vm: VmRow; ackedSeq: number; isWelcome: boolean; unanswered: Command[] }> {
    const { vmId } = connect;
    const scope = {
      vmIds: [vmId],
      incarnations: connect.incarnation === undefined ? [] : [connect.incarnation],
    };
    return withUnit(store, scope, (unit) => {
      const { context, cursor, current } = recognize(
        unit,
        {
          vmId,
          ...namesIn(parts, connect),
          incarnation: connect.incarnation,
          restarted: (vm) => vm.migletState === "error",
        },
        rules,
        log,
      );
      const { vm, nowMs } = context;
      let unanswered: Command[] = [];
      // One that was written off, or an old life's, gets no session: it must not take the living one's place.
      const isWelcome = current && !isTerminal(vm.state);
      if (isWelcome) {
        hear(context);
        vm.sessionEpoch += 1;
        vm.sessionChannel = channel;
        if (connect.protocolVersion > 0)
          vm.protocolVersion = Math.min(Math.ceil(connect.protocolVersion), 32_767);
        if (connect.version !== "") vm.agentVersion = connect.version;
        applyReport(context, connect.migletState ?? assumedState(connect, channel, vm), false);
        for (const command of unit.openCommands(vmId)) {
          if (command.state === "sent" && command.id !== lastSeen) deliverAgain(command, nowMs);
        }
        unanswered = unansweredOf(unit.openCommands(vmId), vm);
        wantRunner(context);
      }
      return { vm: { ...vm }, ackedSeq: cursor.ackedSeq, isWelcome, unanswered };
    });
  }

  function leave(session: LiveSession): void {
    registry.remove(session);
    store
      .transact((tx) =>
        sql`update vms set session_channel = null where vm_id = ${session.vmId} and session_epoch = ${session.epoch}`.execute(
          tx,
        ),
      )
      .catch((error: unknown) =>
        log.debug({ vm_id: session.vmId, error }, "the end of a session was not written"),
      );
  }

  async function open(connect: Connect, channel: Channel, wire: Wire, lastSeen?: string): Promise<Session> {
    hearInMemory(connect.vmId);
    const { vm, ackedSeq, isWelcome, unanswered } = await enter(connect, channel, lastSeen);
    const live = createLive(vm, channel, wire);
    if (isWelcome) registry.add(live);
    log.info(
      { vm_id: vm.vmId, channel, epoch: vm.sessionEpoch, sessions: registry.size },
      "a VM has connected",
    );
    let isOpen = true;
    return {
      beforeMig: connect.protocolVersion === 0,
      reply: {
        accepted: true,
        message: "connected",
        serverVersion: PRODUCT_VERSION,
        epoch: vm.sessionEpoch,
        protocolVersion: PROTOCOL_VERSION,
        heartbeatIntervalMs: pace.heartbeatIntervalMs,
        ackedSeq,
        serverTimeMs: Date.now(),
      },
      ready() {
        if (!isWelcome) return live.end(lostIncarnation);
        for (const command of unanswered) wire.send({ kind: "command", command });
        live.wake();
      },
      close() {
        if (!isOpen) return;
        isOpen = false;
        if (isWelcome) leave(live);
      },
    };
  }

  function createLive(vm: VmRow, channel: Channel, wire: Wire): LiveSession {
    let ended = false;
    let isLooking = false;
    let again = false;
    const live: LiveSession = {
      vmId: vm.vmId,
      channel,
      epoch: vm.sessionEpoch,
      incarnation: vm.incarnation,
      wake() {
        again = true;
        if (!isLooking) void look();
      },
      end(goAway) {
        if (ended) return;
        ended = true;
        wire.end(goAway);
      },
    };
    /** One look after the other; a wake during a look means one more. */
    async function look(): Promise<void> {
      isLooking = true;
      while (again && !ended) {
        again = false;
        try {
          const command = await deliver(vm.vmId, vm.sessionEpoch);
          if (command !== undefined && !ended && !wire.send({ kind: "command", command })) live.end(tooSlow);
        } catch (error) {
          if (error instanceof MigError && error.code === "superseded") {
            registry.remove(live);
            return live.end(superseded);
          }
          // The watch wakes every session that has something waiting, so a failed look is repeated within a sweep.
          log.warn({ vm_id: vm.vmId, error }, "a command could not be fetched");
        }
      }
      isLooking = false;
    }
    return live;
  }

  async function poll(vmId: string, request: Poll, signal: AbortSignal): Promise<Command[]> {
    hearInMemory(vmId);
    const stream = registry.get(vmId);
    // Somebody looks at the queue of a VM that has a stream: a person with curl, not its agent.
    if (stream !== undefined && stream.channel !== "poll" && request.incarnation === undefined) return [];
    let session = polls.get(vmId);
    let turn = session?.takeTurn() ?? 0;
    const isSame =
      session !== undefined &&
      registry.get(vmId) === session &&
      session.named === request.incarnation &&
      (await refresh(session, request));
    const connect: Connect = {
      vmId,
      poolId: "",
      version: "",
      protocolVersion: request.protocolVersion,
      ...(request.incarnation === undefined ? {} : { incarnation: request.incarnation }),
      ...(request.migletState === undefined ? {} : { migletState: request.migletState }),
    };
    let asked: Command[] = [];
    if (session === undefined || !isSame) {
      const { vm, isWelcome, unanswered } = await enter(connect, "poll");
      if (!isWelcome) throw lostError(vmId);
      asked = unanswered;
      session = new PollSession(vm, request.incarnation);
      turn = session.takeTurn();
      registry.add(session);
      if (registry.get(vmId) === session) polls.set(vmId, session);
    }
    if (asked.length > 0) return asked;
    return session.wait(deliver, turn, request.waitMs, AbortSignal.any([signal, parts.signal]));
  }

  /**
   * The next poll of a session: what the last answer carried may not have arrived. Answers false when another replica
   * has a newer session of the VM: this one is over.
   */
  async function refresh(session: PollSession, request: Poll): Promise<boolean> {
    const incarnations = request.incarnation === undefined ? [] : [request.incarnation];
    return withUnit(store, { vmIds: [session.vmId], incarnations }, (unit) => {
      const known = {
        vmId: session.vmId,
        poolId: undefined,
        orgId: undefined,
        incarnation: request.incarnation,
      };
      const { context, current } = recognize(unit, { ...known, restarted: () => false }, rules, log);
      if (request.incarnation !== undefined && (!current || isTerminal(context.vm.state)))
        throw lostError(session.vmId);
      if (context.vm.sessionEpoch !== session.epoch) return false;
      hear(context);
      applyReport(context, request.migletState, context.vm.runnerState === "running");
      for (const command of unit.openCommands(session.vmId)) {
        if (command.state === "sent") deliverAgain(command, unit.nowMs);
      }
      wantRunner(context);
      return true;
    });
  }

  return {
    open,
    poll,
    dropIdlePolls() {
      for (const [vmId, session] of polls) {
        if (!session.isIdle(pollIdleMs) && registry.get(vmId) === session) continue;
        polls.delete(vmId);
        leave(session);
      }
    },
  };
}

/**
 * What the agent has and has not answered. A result travels on a stream that tells nobody whether it arrived, so each
 * session asks again: the agent answers out of its journal and does nothing twice. Agents from before MIG have none.
 */
function unansweredOf(open: readonly CommandRow[], { protocolVersion }: VmRow): Command[] {
  if (protocolVersion === 0) return [];
  return open.filter(({ state }) => state === "acknowledged").map((command) => toMessage(command, {}));
}

/**
 * An agent from before MIG says nothing of its state when it connects over gRPC, and connects as soon as it is
 * ready; after a cut it connects again in whatever state it is (reference/go-agent-wire.md §4).
 */
function assumedState(connect: Connect, channel: Channel, vm: VmRow): string | undefined {
  if (connect.protocolVersion > 0 || channel !== "grpc") return undefined;
  return vm.migletState === null || vm.migletState === "connecting" ? "ready" : undefined;
}

function lostError(vmId: string): MigError {
  return new MigError(
    "incarnation_lost",
    `${vmId} was written off, or has begun a new life since; finish the job and shut down`,
  );
}

const lostIncarnation: GoAway = { reason: "incarnation_lost", reconnectAfterMs: 60_000, deadlineMs: 0 };
const tooSlow: GoAway = { reason: "slow_consumer", reconnectAfterMs: 1_000, deadlineMs: 0 };
