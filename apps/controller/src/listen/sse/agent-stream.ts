import type { ServerResponse } from "node:http";
import { type Log, pause } from "@mig/kit";
import type { Connect, ControllerMessage, GoAway } from "@mig/protocol";
import type { Desk, Session, Wire } from "../../session/desk.ts";
import { toMigError } from "../error.ts";
import { Outgoing } from "./outgoing.ts";

/** What a stream may touch. */
export interface SseParts {
  readonly desk: Desk;
  readonly log: Log;
  /** Between comments on a stream that has nothing to say. */
  readonly pingMs: number;
  /** Ends when the controller stops. */
  readonly signal: AbortSignal;
}

export interface SseRequest {
  readonly connect: Connect;
  /** `Last-Event-ID`: the last command that this client has seen. */
  readonly lastSeen: string | undefined;
  readonly headers: Readonly<Record<string, string>>;
  /** Asks the guard of the route again: credentials may end while the stream is open. */
  recheck(): Promise<void>;
}

/**
 * One event stream of one VM: commands come down, everything else goes by POST. Rejects when there is no session, before
 * anything was written. A client that announces no protocol version (seed 003, option 2) gets commands and comments.
 */
export async function openAgentStream(
  parts: SseParts,
  response: ServerResponse,
  { connect, lastSeen, headers, recheck }: SseRequest,
): Promise<void> {
  const out = new Outgoing(response);
  const over = new AbortController();
  const understands = ({ kind }: ControllerMessage): boolean =>
    kind === "command" || connect.protocolVersion > 0;
  const tell = (message: ControllerMessage): boolean => !understands(message) || out.send(message);
  const end = (goAway: GoAway): void => {
    if (over.signal.aborted) return;
    over.abort();
    // One that does not read would not read this either; and one whose session ended while it opened has no stream yet.
    if (goAway.reason === "slow_consumer" || !response.headersSent || !tell({ kind: "go_away", goAway }))
      response.destroy();
    else response.end();
  };
  const wire: Wire = { send: tell, end };

  const session: Session = await parts.desk.open(connect, "sse", wire, lastSeen);
  const close = (): void => {
    over.abort();
    session.close();
  };
  if (response.destroyed || over.signal.aborted) return close();
  response.once("close", close);
  const stop = (): void => end(goodbye());
  parts.signal.addEventListener("abort", stop, { once: true });
  response.once("close", () => parts.signal.removeEventListener("abort", stop));

  response.writeHead(200, {
    ...headers,
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store, no-transform",
    // nginx would gather what we say until a buffer is full.
    "x-accel-buffering": "no",
  });
  out.retryAfter(1_000 + Math.random() * 2_000);
  tell({ kind: "connect_ack", reply: session.reply });
  session.ready();
  if (parts.signal.aborted) stop();
  void keepAlive(parts.pingMs, over.signal);

  async function keepAlive(everyMs: number, signal: AbortSignal): Promise<void> {
    for (;;) {
      await pause(everyMs, signal);
      if (signal.aborted) return;
      // What was written a whole pause ago has not left: nobody reads.
      if (!out.isEmpty || !out.keepAlive()) return end(tooSlow);
      try {
        await recheck();
      } catch (thrown) {
        const error = toMigError(thrown);
        // Any other failure is ours and passes.
        if (error.code !== "unauthenticated" && error.code !== "forbidden") continue;
        parts.log.info({ vm_id: connect.vmId, code: error.code }, "the credentials of a stream have ended");
        return end({ reason: error.code, reconnectAfterMs: 0, deadlineMs: 0 });
      }
    }
  }
}

/** Spread, so that agents do not all come back at once. */
function goodbye(): GoAway {
  const reconnectAfterMs = Math.round(500 + Math.random() * 2_000);
  return { reason: "shutting_down", reconnectAfterMs, deadlineMs: 0 };
}

const tooSlow: GoAway = { reason: "slow_consumer", reconnectAfterMs: 1_000, deadlineMs: 0 };
