import type { Log } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { asObject, type NatsNames, readText, type Unknown } from "@mig/protocol";
import { type ConsumerMessages, type JsMsg, jetstream } from "@nats-io/jetstream";
import type { NatsConnection } from "@nats-io/transport-node";

export interface NatsCommandsSettings {
  readonly connection: NatsConnection;
  readonly names: NatsNames;
  readonly vmId: string;
  /** Commands of another session are not ours. */
  readonly session: number;
  readonly log: Log;
  onCommand(body: Unknown): void;
  onEnd(reason: MigError): void;
}

/** One is under way at a time; an urgent one may overtake it. */
const askedForMax = 4;
const missedMax = 2;

/**
 * Takes commands out of this VM's box in MIG_COMMANDS. What was put there while the connection was away is still there.
 * Answers a function that stops it.
 */
export function takeNatsCommands(settings: NatsCommandsSettings): () => void {
  const { connection, names, vmId, session, log, onCommand, onEnd } = settings;
  let messages: ConsumerMessages | undefined;
  let hasStopped = false;
  const end = (why: string, cause?: unknown): void => {
    if (!hasStopped)
      onEnd(new MigError("controller_unreachable", `The commands on NATS ended: ${why}.`, { cause }));
  };

  const take = (message: JsMsg): void => {
    // A newer link has the box: it shall have the command as well.
    if (hasStopped || !message.subject.endsWith(`.${session}`)) {
      message.nak();
      end("a newer session has them");
      return;
    }
    const body = read(message);
    // Led astray: JetStream delivers to a subject that the asking client chose.
    if (body === undefined || readText(body, "vm_id") !== vmId) {
      message.term();
      log.warn({ subject: message.subject }, "A command that is not for this VM was skipped.");
      return;
    }
    onCommand(body);
    // The journal and the answer make it act once; the stream only has to know that it has come.
    message.ack();
  };
  const run = async (): Promise<void> => {
    const consumer = await jetstream(connection).consumers.get(
      names.commandStream,
      names.commandConsumer(vmId),
    );
    if (hasStopped) return;
    messages = await consumer.consume({ max_messages: askedForMax, callback: take });
    for await (const { type, ...about } of messages.status()) {
      if (type === "consumer_deleted" || type === "consumer_not_found")
        return end("a newer session has them");
      if (type === "stream_not_found") return end("the server has lost the stream");
      if (type === "heartbeats_missed" && "count" in about && about.count >= missedMax)
        return end("the server says nothing");
    }
  };
  run().catch((error: unknown) => end("they cannot be asked for", error));
  return () => {
    hasStopped = true;
    messages?.stop();
  };
}

function read(message: JsMsg): Unknown | undefined {
  try {
    return asObject(message.json());
  } catch {
    return undefined;
  }
}
