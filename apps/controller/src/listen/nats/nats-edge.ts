import { type Log, pause } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { natsNames, natsPeerOf } from "@mig/protocol";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import type { Msg, NatsConnection } from "@nats-io/transport-node";
import type { NatsConfig } from "../../config/nats.ts";
import type { Desk } from "../../session/desk.ts";
import { toMigError } from "../error.ts";
import { AgentStream } from "./agent-stream.ts";
import { connectNats } from "./connect-nats.ts";
import { Incoming, keepTaking } from "./incoming.ts";
import type { NatsParts } from "./nats-parts.ts";
import { Outgoing } from "./outgoing.ts";
import { ensureStreams, isStreamMissing, openCommandBox } from "./streams.ts";

export interface NatsEdgeSettings {
  readonly config: NatsConfig;
  readonly desk: Desk;
  readonly log: Log;
  readonly standingOf: NatsParts["standingOf"];
  readonly retryMs: number;
  readonly silentMs?: number;
}

export interface NatsEdge {
  /** Tells every agent to come back later, finishes what was taken, and leaves NATS. */
  close(graceMs: number): Promise<void>;
}

/** Four times as long as an agent says nothing. */
const silentMsUsual = 20_000;
const closeMs = 2_000;
/** All replicas of one installation: each `connect` comes to one of them. */
const queue = "controllers";

/**
 * The channel over NATS. It begins beside everything else: a NATS that is away costs this channel and not the others, and
 * is tried again until it is there.
 */
export function createNatsEdge(settings: NatsEdgeSettings): NatsEdge {
  const { config, log } = settings;
  const end = new AbortController();
  const streams = new Map<string, AgentStream>();
  let connection: NatsConnection | undefined;
  let incoming: Incoming | undefined;
  let isStopping = false;

  let complaint = "";
  const tell = (error: unknown): void => {
    const isNews = complaint !== String(error);
    complaint = String(error);
    const fields = { error, servers: config.urls };
    if (isNews) log.warn(fields, "NATS cannot be used now; agents take other channels meanwhile");
    else log.debug(fields, "NATS can still not be used");
  };
  const running = keepTaking(serve, tell, end.signal);

  async function serve(): Promise<void> {
    connection ??= await connectNats(config);
    if (end.signal.aborted) return;
    const names = natsNames(config.prefix);
    const manager = await jetstreamManager(connection);
    const ensure = (): Promise<void> => ensureStreams(manager, names, config.prefix, config.replicas);
    await ensure();
    const parts: NatsParts = {
      ...settings,
      silentMs: settings.silentMs ?? silentMsUsual,
      names,
      connection,
      openCommandBox: (vmId, session) =>
        openCommandBox(manager, names, vmId, session).catch(async (error: unknown) => {
          if (!isStreamMissing(error)) throw error;
          // It was in the memory of a server that has started again since.
          await ensure();
          await openCommandBox(manager, names, vmId, session);
        }),
      stream: jetstream(connection),
    };
    const connects = connection.subscribe(`${config.prefix}.connect.*.*.*`, {
      queue,
      callback: (error, message) => {
        if (error === null && !isStopping) void open(parts, message);
      },
    });
    incoming = new Incoming(parts, end.signal);
    complaint = "";
    log.info({ servers: config.urls, prefix: config.prefix }, "agents may come over NATS");
    try {
      await incoming.run();
    } finally {
      if (!connection.isClosed()) connects.unsubscribe();
      else connection = undefined;
    }
  }

  async function open(parts: NatsParts, { subject, data }: Msg): Promise<void> {
    const { peer, link } = natsPeerOf(subject) ?? {};
    if (peer === undefined || link === undefined) return;
    const down = parts.names.down(peer, link);
    try {
      if (streams.has(down)) throw new MigError("conflict", "this link is open; a new one has another name");
      const stream = new AgentStream(peer, link, await parts.standingOf(peer), parts, () => {
        if (streams.get(down) === stream) streams.delete(down);
      });
      streams.set(down, stream);
      await stream.open(data);
    } catch (thrown) {
      const { code, message } = toMigError(thrown);
      log.info({ vm_id: peer.vmId, code, reason: message }, "a link over NATS was refused");
      const error = { code, message, details: {}, atMs: Date.now() };
      new Outgoing(parts, peer.vmId, down, log).tell({ kind: "error", error });
    }
  }

  return {
    async close(graceMs) {
      isStopping = true;
      for (const stream of streams.values()) stream.sayGoodbye(graceMs);
      const untilMs = performance.now() + Math.min(graceMs, closeMs);
      while (streams.size > 0 && performance.now() < untilMs) await pause(20);
      end.abort();
      await Promise.race([Promise.all([incoming?.idle(), running]), pause(closeMs)]);
      if (connection !== undefined && !connection.isClosed())
        await Promise.race([connection.drain(), pause(closeMs)]).catch(() => {});
    },
  };
}
