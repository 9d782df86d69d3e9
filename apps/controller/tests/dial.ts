import { Client, credentials, Metadata, type StatusObject } from "@grpc/grpc-js";
import { pause, waitFor } from "@mig/kit";
import type { AgentMessage, CommandAnswer, ControllerMessage, VmEvent } from "@mig/protocol";
import { commandService } from "@mig/protocol/grpc";
import { decodeControllerMessage, encodeAgentMessage } from "@mig/protocol/proto";

export interface Dialled extends AsyncDisposable {
  heard: ControllerMessage[];
  /** How the stream ended, as the client sees it. */
  ended: Promise<StatusObject>;
  send(message: AgentMessage): void;
  sendBytes(bytes: Uint8Array): void;
  connect(
    vmId: string,
    more?: { poolId?: string; protocolVersion?: number; incarnation?: string; migletState?: string },
  ): void;
  beat(vmId: string, more?: { poolId?: string; migletState?: string }): void;
  event(vmId: string, event: Partial<VmEvent>): void;
  answer(answer: CommandAnswer): void;
  /** The next message of this kind that was not returned yet. */
  next<K extends ControllerMessage["kind"]>(kind: K): Promise<Extract<ControllerMessage, { kind: K }>>;
  isOpenAfterMs(ms: number): Promise<boolean>;
  /** Stops reading, as an agent that hangs. */
  stopReading(): void;
  halfClose(): void;
}

/** A gRPC client of StreamCommands: the library that agents use, with nothing of an agent in it. */
export function dial(
  port: number,
  headers: Record<string, string> = {},
  channel = credentials.createInsecure(),
): Dialled {
  const client = new Client(`127.0.0.1:${port}`, channel, {
    "grpc.enable_channelz": 0,
    // A connection of its own, as each agent has: the library would share one among all clients of a process.
    "grpc.use_local_subchannel_pool": 1,
  });
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
  const { path, requestSerialize, responseDeserialize } = commandService.streamCommands;
  const call = client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, metadata);
  const heard: ControllerMessage[] = [];
  const returned = new Set<ControllerMessage>();
  let isOpen = true;
  call.on("data", (bytes: Uint8Array) => {
    const message = decodeControllerMessage(bytes, Date.now());
    if (message !== undefined) heard.push(message);
  });
  call.on("error", () => {}); // the status tells the same
  const ended = new Promise<StatusObject>((resolve) => {
    call.on("status", (status) => {
      isOpen = false;
      resolve(status);
    });
  });
  const send = (message: AgentMessage): void => void call.write(encodeAgentMessage(message));
  return {
    heard,
    ended,
    send,
    sendBytes: (bytes) => void call.write(bytes),
    connect: (vmId, { poolId = "p", protocolVersion = 1, incarnation, migletState } = {}) =>
      send({
        kind: "connect",
        connect: {
          vmId,
          poolId,
          version: "test",
          protocolVersion,
          ...(incarnation === undefined ? {} : { incarnation }),
          ...(migletState === undefined ? {} : { migletState }),
        },
      }),
    beat: (vmId, { poolId = "p", migletState = "idle" } = {}) =>
      send({ kind: "heartbeat", heartbeat: { vmId, poolId, migletState, sentAtMs: Date.now() } }),
    event: (vmId, event) =>
      send({
        kind: "event",
        event: { type: "job_heartbeat", vmId, poolId: "p", occurredAtMs: Date.now(), data: {}, ...event },
      }),
    answer: (answer) => send({ kind: "ack", answer }),
    async next<K extends ControllerMessage["kind"]>(kind: K) {
      const found = await waitFor(`a ${kind} (heard: ${heard.map((one) => one.kind).join(", ")})`, () =>
        heard.find(
          (one): one is Extract<ControllerMessage, { kind: K }> => one.kind === kind && !returned.has(one),
        ),
      );
      returned.add(found);
      return found;
    },
    async isOpenAfterMs(ms) {
      await Promise.race([ended, pause(ms)]);
      return isOpen;
    },
    stopReading: () => void call.pause(),
    halfClose: () => void call.end(),
    async [Symbol.asyncDispose]() {
      call.cancel();
      client.close();
    },
  };
}
