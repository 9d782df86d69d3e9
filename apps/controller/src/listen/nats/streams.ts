import type { NatsNames } from "@mig/protocol";
import {
  AckPolicy,
  DeliverPolicy,
  DiscardPolicy,
  JetStreamApiError,
  type JetStreamManager,
  RetentionPolicy,
  StorageType,
} from "@nats-io/jetstream";
import { nanos, type WithRequired } from "@nats-io/transport-node";

/**
 * The two streams. What is in MIG_UP nobody else has once the VM is gone, so it is on disk. What is in MIG_COMMANDS is in
 * the table as well, and a grant must not rest on a disk: it is in memory, for five minutes at most, and gone when the
 * agent has it. A server that restarts costs a redelivery.
 */
const minuteMs = 60_000;
const upAgeMs = 24 * 60 * minuteMs;
const upBytesMax = 1024 * 1024 * 1024;
/** Of one VM; what is beyond waits in the VM's own spool. */
const upPerVmMax = 1_000;
const commandAgeMs = 5 * minuteMs;
const commandBytesMax = 256 * 1024 * 1024;
/** One waits for the agent at a time, and an urgent one may overtake it. */
const commandsPerSessionMax = 16;
/** A publisher that heard nothing tries again within it. */
const dedupeMs = 2 * minuteMs;

export const upAckMs = 30_000;
const upUnderWayMax = 2_000;
const commandAckMs = 10_000;
/** A VM's consumer that nobody asks for so long is removed by the server. */
const idleConsumerMs = 10 * minuteMs;

type StreamConfig = WithRequired<Parameters<JetStreamManager["streams"]["add"]>[0], "name">;

export function streamConfigs(names: NatsNames, prefix: string, replicas: number): StreamConfig[] {
  const common = {
    retention: RetentionPolicy.Workqueue,
    duplicate_window: nanos(dedupeMs),
    num_replicas: replicas,
    // A VM chooses where JetStream sends a receipt, and $JS.API.STREAM.PURGE takes one for an order: no server that is
    // asked to empty these streams or to take a message out of them may do it, whoever asks.
    deny_purge: true,
    deny_delete: true,
  };
  return [
    {
      ...common,
      name: names.upStream,
      subjects: [`${prefix}.up.*.*`],
      storage: StorageType.File,
      // Refused to the VM that has too much, which keeps it; nothing that was taken is thrown away for it.
      discard: DiscardPolicy.New,
      discard_new_per_subject: true,
      max_msgs_per_subject: upPerVmMax,
      max_age: nanos(upAgeMs),
      max_bytes: upBytesMax,
    },
    {
      ...common,
      name: names.commandStream,
      subjects: [`${prefix}.commands.*.*`],
      storage: StorageType.Memory,
      discard: DiscardPolicy.Old,
      max_msgs_per_subject: commandsPerSessionMax,
      max_age: nanos(commandAgeMs),
      max_bytes: commandBytesMax,
    },
  ];
}

/** Makes what is missing and changes what was made by another version of this program. */
export async function ensureStreams(
  jsm: JetStreamManager,
  names: NatsNames,
  prefix: string,
  replicas: number,
): Promise<void> {
  for (const config of streamConfigs(names, prefix, replicas)) {
    const there = await findStream(jsm, config.name);
    if (there === undefined) await jsm.streams.add(config);
    // Said again without need, the server would want the stream's space a second time.
    else if (isOther(config, there)) await jsm.streams.update(config.name, config);
  }
  await jsm.consumers.add(names.upStream, {
    durable_name: names.upConsumer,
    ack_policy: AckPolicy.Explicit,
    ack_wait: nanos(upAckMs),
    deliver_policy: DeliverPolicy.All,
    max_ack_pending: upUnderWayMax,
  });
}

async function findStream(jsm: JetStreamManager, name: string): Promise<object | undefined> {
  try {
    return (await jsm.streams.info(name)).config;
  } catch (error) {
    if (isStreamMissing(error)) return undefined;
    throw error;
  }
}

function isOther(wanted: object, there: object): boolean {
  const has = new Map<string, unknown>(Object.entries(there));
  return Object.entries(wanted).some(
    ([key, value]) => JSON.stringify(has.get(key)) !== JSON.stringify(value),
  );
}

const streamMissing = 10_059;
export function isStreamMissing(error: unknown): boolean {
  return error instanceof JetStreamApiError && error.code === streamMissing;
}
const consumerMissing = 10_014;

/**
 * A session's own box: what an older session left is out of reach and ends with its age, and its agent, if it still listens,
 * finds no consumer. Only controllers make consumers, so a VM needs no right to.
 */
export async function openCommandBox(
  jsm: JetStreamManager,
  names: NatsNames,
  vmId: string,
  session: number,
): Promise<void> {
  const name = names.commandConsumer(vmId);
  try {
    await jsm.consumers.delete(names.commandStream, name);
  } catch (error) {
    if (!(error instanceof JetStreamApiError) || error.code !== consumerMissing) throw error;
  }
  await jsm.consumers.add(names.commandStream, {
    durable_name: name,
    filter_subject: names.commands(vmId, session),
    ack_policy: AckPolicy.Explicit,
    ack_wait: nanos(commandAckMs),
    deliver_policy: DeliverPolicy.All,
    inactive_threshold: nanos(idleConsumerMs),
    mem_storage: true,
  });
}
