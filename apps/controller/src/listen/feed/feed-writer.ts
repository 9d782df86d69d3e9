import type { ServerResponse } from "node:http";
import type { Gap, Sink } from "../../feed/follower.ts";
import type { FeedItem } from "../../feed/item.ts";
import { type Place, toCursor } from "../../feed/place.ts";
import { renderItem } from "./render.ts";

/** What may wait for a peer; then the feed reads the table at the peer's speed. One item may be larger by itself. */
const waitingBytesMax = 1024 * 1024;

const gaps: Record<Gap, string> = {
  forgotten:
    "what came next is no longer kept (feed.keep): list what you show anew (GET /api/v1/vms, commands, events), then go on from here",
  unknown:
    "this database has never been where the cursor is: list what you show anew (GET /api/v1/vms, commands, events), then go on from here",
};

/** The writing half of a feed (https://html.spec.whatwg.org/multipage/server-sent-events.html). */
export class FeedWriter implements Sink {
  readonly #response: ServerResponse;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #takenWithinMs: number;
  #waiting = 0;
  #onTaken: (() => void) | undefined;
  readonly begun: Promise<void>;
  #tellBegun: () => void = () => {};

  constructor(
    response: ServerResponse,
    { headers, takenWithinMs }: { headers: Readonly<Record<string, string>>; takenWithinMs: number },
  ) {
    this.#response = response;
    this.#headers = headers;
    this.#takenWithinMs = takenWithinMs;
    this.begun = new Promise((resolve) => {
      this.#tellBegun = resolve;
    });
  }

  begin(next: Place, gap: Gap | undefined): void {
    this.#response.writeHead(200, {
      ...this.#headers,
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-store, no-transform",
      // nginx would gather what we say until a buffer is full.
      "x-accel-buffering": "no",
    });
    this.#write(`retry: ${spreadMs()}\n\n`);
    this.#say("hello", { cursor: toCursor(next) }, next);
    if (gap !== undefined) this.reset(next, gap);
    this.#tellBegun();
  }

  reset(next: Place, gap: Gap): void {
    this.#say("reset", { reason: gap, cursor: toCursor(next), message: gaps[gap] }, next);
  }

  send(item: FeedItem): boolean {
    const text = renderItem(item);
    if (this.#waiting > 0 && this.#response.writableLength + text.length > waitingBytesMax) return false;
    this.#write(text);
    return true;
  }

  /** The id alone makes a client's cursor newer, without anything that it would show. */
  ping(next: Place | undefined): void {
    if (this.#waiting === 0)
      this.#write(next === undefined ? ": ping\n\n" : `: ping\nid: ${toCursor(next)}\n\n`);
  }

  taken(): Promise<boolean> {
    if (this.#response.destroyed) return Promise.resolve(false);
    if (this.#waiting === 0) return Promise.resolve(true);
    return new Promise((resolve) => {
      const end = (isTaken: boolean): void => {
        clearTimeout(timer);
        this.#response.off("close", gone);
        this.#onTaken = undefined;
        resolve(isTaken);
      };
      const gone = (): void => end(false);
      const timer = setTimeout(gone, this.#takenWithinMs);
      this.#response.once("close", gone);
      this.#onTaken = () => end(true);
    });
  }

  /** The last that is said, also to one who does not read: perhaps it does later. */
  end(event: "dropped" | "go_away", reason: string, next: Place): void {
    if (!this.#response.writable || !this.#response.headersSent) return void this.#response.destroy();
    const reconnectAfterMs = spreadMs();
    this.#write(`retry: ${reconnectAfterMs}\n\n`);
    this.#say(event, { reason, cursor: toCursor(next), reconnect_after_ms: reconnectAfterMs }, next);
    this.#response.end();
    const timer = setTimeout(() => this.#response.destroy(), lastWordsMs);
    this.#response.once("close", () => clearTimeout(timer));
  }

  #say(event: string, data: object, next: Place): void {
    this.#write(`event: ${event}\nid: ${toCursor(next)}\ndata: ${JSON.stringify(data)}\n\n`);
  }

  #write(text: string): void {
    if (!this.#response.writable) return; // ending; the feed is told of that separately
    this.#waiting += 1;
    this.#response.write(text, () => {
      this.#waiting -= 1;
      if (this.#waiting === 0) this.#onTaken?.();
    });
  }
}

const lastWordsMs = 5_000;

/** Spread, so that those who were sent away together do not come back together. */
function spreadMs(): number {
  return Math.round(1_000 + Math.random() * 2_000);
}
