import { randomBytes } from "node:crypto";
import type { Clock, Log } from "@mig/kit";
import { type ErrorCode, MigError } from "@mig/lifecycle";
import {
  type AgentMessage,
  agentMessageToJson,
  asObject,
  controllerMessageFromJson,
  natsLinkHeader,
  natsNames,
  natsWords,
  readNumber,
  readText,
  type Unknown,
} from "@mig/protocol";
import { jetstream } from "@nats-io/jetstream";
import { headers, type Msg, type NatsConnection } from "@nats-io/transport-node";
import { createFrameBatch } from "./frame-batch.ts";
import type { NatsAccess } from "./nats-access.ts";
import { takeNatsCommands } from "./nats-commands.ts";
import type { CallListener, StreamCall } from "./stream-call.ts";

export interface NatsCallSettings {
  readonly connection: NatsConnection;
  readonly access: NatsAccess;
  /** Nothing was said for so long: ask whether the controller is there. */
  readonly pingMs: number;
  /** For an answer to that, and for the stream's receipt. */
  readonly answerMs: number;
  readonly log: Log;
  readonly clock: Clock;
}

/** A token is renewed so long before its end, or at nine tenths of a short life. */
const marginMs = 60_000;
const lastWordsMs = 250;

/**
 * One link over NATS. What must not be lost goes into the stream and is sent when the stream has it; `connect`, heartbeats
 * and pings go to a controller directly, and the server tells at once when none listens.
 */
export function startNatsCall(settings: NatsCallSettings, { onMessage, onEnd }: CallListener): StreamCall {
  const { connection, access, pingMs, answerMs, log, clock } = settings;
  const { peer, expiresInMs } = access;
  const names = natsNames(access.prefix);
  const link = randomBytes(16).toString("hex");
  const down = names.down(peer, link);
  const stream = jetstream(connection, { timeout: answerMs });
  const marked = headers();
  marked.set(natsLinkHeader, link);
  let isUp = false;
  let hasEnded = false;
  let stopCommands = (): void => {};
  let heardMs = clock.monotonicMs();
  const cancels = new Set<() => void>();
  const after = (ms: number, run: () => void): void => {
    const cancel = clock.after(ms, () => {
      cancels.delete(cancel);
      run();
    });
    cancels.add(cancel);
  };

  const end = (reason: MigError): void => {
    if (hasEnded) return;
    hasEnded = true;
    for (const cancel of cancels) cancel();
    stopCommands();
    publish(names.live(peer, link), natsWords.bye);
    // Gives the last word the time to leave.
    void Promise.race([
      connection.flush(),
      new Promise((resolve) => setTimeout(resolve, lastWordsMs).unref()),
    ])
      .catch(() => {})
      .then(() => connection.close())
      .catch(() => {});
    onEnd(reason);
  };
  const endWith = (why: string, code: ErrorCode = "controller_unreachable", cause?: unknown): void =>
    end(new MigError(code, `The link over NATS ended: ${why}.`, { cause }));
  const publish = (subject: string, text: string, reply?: string): void => {
    if (connection.isClosed()) return;
    connection.publish(subject, text, reply === undefined ? {} : { reply });
  };

  const take = (body: Unknown): void => {
    const kind = readText(body, "kind");
    if (kind === "error" && !isUp) {
      const code = codeOf(readText(body, "code"));
      endWith(`the controller refused it (${readText(body, "message")?.slice(0, 200)})`, code);
      return;
    }
    onMessage(() => controllerMessageFromJson(body, clock.nowMs()));
    if (kind !== "connect_ack" || isUp || hasEnded) return;
    isUp = true;
    stopCommands = takeNatsCommands({
      connection,
      names,
      vmId: peer.vmId,
      session: readNumber(body, "epoch") ?? 0,
      log,
      onCommand: (command) => onMessage(() => controllerMessageFromJson(command, clock.nowMs())),
      onEnd: end,
    });
    watch();
  };
  const hear = (message: Msg): void => {
    if (hasEnded) return;
    heardMs = clock.monotonicMs();
    const text = message.string();
    const body = parse(text);
    if (message.headers?.code === 503) endWith("no controller listens there");
    else if (text === natsWords.bye) endWith("the controller ended it");
    else if (body !== undefined) take(body);
    else if (text !== natsWords.pong) log.warn({}, "A message that cannot be understood was skipped.");
  };
  const watch = (): void =>
    after(pingMs, () => {
      const askedMs = clock.monotonicMs();
      if (askedMs - heardMs >= pingMs / 2) {
        publish(names.live(peer, link), natsWords.ping, down);
        after(answerMs, () => {
          if (heardMs < askedMs) endWith(`nothing was answered within ${answerMs} ms`);
        });
      }
      watch();
    });

  connection.subscribe(down, {
    callback: (error, message) => {
      if (error === null) hear(message);
      else endWith(error.message, "forbidden", error);
    },
  });
  void connection.closed().then((error) => {
    endWith(
      error instanceof Error ? error.message : "the connection is closed",
      "controller_unreachable",
      error,
    );
  });
  void watchStatus(connection, (error) => endWith(error.message, "forbidden", error));
  if (expiresInMs !== undefined)
    after(Math.max(expiresInMs - marginMs, expiresInMs * 0.9), () => {
      onMessage(() => ({
        kind: "go_away",
        goAway: { reason: "token_expired", reconnectAfterMs: 0, deadlineMs: 0 },
      }));
      endWith("its credentials end soon");
    });

  const up = createFrameBatch(async (text) => {
    try {
      await stream.publish(names.up(peer), text, { headers: marked });
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new MigError("controller_unreachable", `The stream on NATS did not take it: ${why}.`, { cause });
    }
  });
  const gone = (): Promise<never> =>
    Promise.reject(new MigError("controller_unreachable", "The link over NATS has ended."));
  return {
    async send(message) {
      if (hasEnded) return gone();
      const text = JSON.stringify(agentMessageToJson(message));
      const subject = message.kind === "connect" ? names.connect(peer, link) : names.live(peer, link);
      if (message.kind === "ack" || message.kind === "event") return up.send(text);
      return publish(subject, text, down);
    },
    sendEvent: (message: AgentMessage) =>
      hasEnded ? gone() : up.queue(JSON.stringify(agentMessageToJson(message))),
    finish: () => endWith("closed by us"),
    destroy: () => endWith("closed by us"),
  };
}

/** What NATS does not let this VM do ends the link: it would never work. */
async function watchStatus(connection: NatsConnection, onForbidden: (error: Error) => void): Promise<void> {
  for await (const status of connection.status())
    if (status.type === "error" && status.error.name === "PermissionViolationError")
      onForbidden(status.error);
}

/** Codes that say something about this VM; every other one means: come back later. */
function codeOf(code: string | undefined): ErrorCode {
  const final = ["unauthenticated", "forbidden", "vm_mismatch", "incarnation_lost"] as const;
  return final.find((one) => one === code) ?? "controller_unreachable";
}

function parse(text: string): Unknown | undefined {
  try {
    return asObject(JSON.parse(text));
  } catch {
    return undefined;
  }
}
