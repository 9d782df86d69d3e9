import type { ServerResponse } from "node:http";
import { type Log, pause } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import type { FastifyRequest } from "fastify";
import type { Feed } from "../../feed/feed.ts";
import type { Wanted } from "../../feed/item.ts";
import type { Place } from "../../feed/place.ts";
import { actorOf, callerOf, demand, type Gate, orgsOf } from "../auth.ts";
import { toMigError } from "../error.ts";
import { FeedWriter } from "./feed-writer.ts";
import type { FeedSlots } from "./slots.ts";

/** What a feed's stream may touch. */
export interface FeedParts {
  readonly feed: Feed;
  readonly slots: FeedSlots;
  readonly gate: Gate;
  readonly log: Log;
  /** Between comments on a stream that has nothing to say. */
  readonly pingMs: number;
  /** Ends when the controller stops. */
  readonly signal: AbortSignal;
}

export interface FeedRequest {
  readonly from: Place | undefined;
  readonly wanted: Wanted;
  readonly headers: Readonly<Record<string, string>>;
}

/** A key that is revoked is good for so long on an open feed. */
const recheckMsMax = 2_000;
/** Who takes nothing of what waits for so long is dropped. */
const takenWithinMs = 15_000;

/**
 * One feed of one operator. Resolves when it has begun; rejects when it does not, before anything was written. It ends
 * when the operator goes, takes nothing, may see it no longer, or the controller stops: the last words say why and
 * where to go on.
 */
export async function openFeedStream(
  { feed, slots, gate, log, pingMs, signal }: FeedParts,
  request: FastifyRequest,
  response: ServerResponse,
  { from, wanted, headers }: FeedRequest,
): Promise<void> {
  const caller = actorOf(callerOf(request));
  const release = slots.take(caller);
  const writer = new FeedWriter(response, { headers, takenWithinMs });
  const over = new AbortController();
  let reason = "gone";
  const end = (why: string): void => {
    reason = over.signal.aborted ? reason : why;
    over.abort();
  };
  const gone = (): void => end("gone");
  const stop = (): void => end("shutting_down");
  response.once("close", gone);
  signal.addEventListener("abort", stop, { once: true });
  if (response.destroyed) gone();
  if (signal.aborted) stop();

  const follower = feed.follow({ from, wanted, signal: over.signal }, writer);
  const ended = follower.ended
    .then(({ reason: how, next }) => {
      if (how === "slow") writer.end("dropped", "slow_consumer", next);
      else if (reason !== "gone") writer.end("go_away", reason, next);
      log.debug({ caller, reason: how === "slow" ? "slow_consumer" : reason }, "a feed has ended");
    })
    .finally(() => {
      over.abort();
      signal.removeEventListener("abort", stop);
      release();
    });
  await Promise.race([writer.begun, ended]);
  ended.catch(() => response.destroy()); // from here on nobody else would be told
  void keepAlive();
  void recheck();

  async function keepAlive(): Promise<void> {
    for (;;) {
      await pause(pingMs, over.signal);
      if (over.signal.aborted) return;
      writer.ping(follower.livePlace());
    }
  }

  /** The same questions as at the door, again and again. */
  async function recheck(): Promise<void> {
    const orgs = JSON.stringify(orgsOf(callerOf(request)));
    let restMs = 0;
    for (;;) {
      await pause(restMs, over.signal);
      if (over.signal.aborted) return;
      restMs = Math.min(pingMs, recheckMsMax);
      try {
        const { who, untilMs } = await gate.identify(request.headers.authorization);
        demand(who, "feed.read", { orgId: orgsOf(who)?.[0] ?? "" });
        if (JSON.stringify(orgsOf(who)) !== orgs) throw new MigError("forbidden", "other organizations now");
        const leftMs = untilMs === undefined ? restMs : untilMs - Date.now();
        if (leftMs <= 0) return end("token_expired");
        restMs = Math.min(restMs, leftMs);
      } catch (thrown) {
        const { code } = toMigError(thrown);
        // Any other failure is ours and passes.
        if (code === "unauthenticated" || code === "forbidden" || code === "not_found") return end(code);
      }
    }
  }
}
