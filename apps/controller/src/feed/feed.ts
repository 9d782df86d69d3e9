import { type Log, pause } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import type { Store } from "../store/open-store.ts";
import { askedBy, covers } from "./asked.ts";
import { FirstPlace } from "./first-place.ts";
import { type Follow, type FollowEnd, Follower, type Following, type Gap, type Sink } from "./follower.ts";
import { type Horizon, moveHorizon, noHorizon } from "./horizon.ts";
import { isWanted } from "./item.ts";
import { after, isBefore, judgePlace, type Place } from "./place.ts";
import { lookAround, type Page, readExtent, readPage } from "./rows.ts";

export interface FeedSettings {
  readonly store: Store;
  readonly log: Log;
  /** Ends when the controller stops. */
  readonly signal: AbortSignal;
  /** How often the table is looked at while somebody follows. */
  readonly lookMs?: number;
}

const lookMsDefault = 200;
/** After a hint, and while something is not settled: soon, and yet not all the time. */
const soonMs = 20;
const troubleMs = 1_000;

/**
 * The live feed of this replica: one reader of the table for all followers, and only while there is one. Whoever comes
 * with a cursor reads pages of its own until it has come as far as the reader, and goes on with the reader's: the
 * change from one to the other is a comparison and an assignment with nothing between, so nothing is left out or told
 * twice. Pages of different followers are read one after the other: a hundred that come back together must not
 * take all connections of the database.
 */
export class Feed {
  readonly #settings: Required<FeedSettings>;
  readonly #followers = new Set<Follower>();
  #horizon: Horizon = noHorizon;
  /** Everything before it has been told to those that are live; undefined: not known yet. */
  #place: Place | undefined;
  #reading: Promise<void> | undefined;
  #wakeUp: () => void = () => {};
  readonly #firstPlace = new FirstPlace();
  #lastTurn: Promise<unknown> = Promise.resolve();

  constructor(settings: FeedSettings) {
    this.#settings = { lookMs: lookMsDefault, ...settings };
    settings.signal.addEventListener("abort", () => this.#wakeUp(), { once: true });
  }

  /** Resolves when nothing is read any more; call after `signal` has aborted. */
  async close(): Promise<void> {
    while (this.#reading !== undefined) await this.#reading;
    await this.#lastTurn;
  }

  get size(): number {
    return this.#followers.size;
  }

  follow({ from, wanted, signal }: Follow, sink: Sink): Following {
    const follower = new Follower(wanted, sink);
    return {
      ended: this.#follow(follower, from, signal),
      livePlace: () => (follower.isLive ? follower.next : undefined),
    };
  }

  async #follow(follower: Follower, from: Place | undefined, signal: AbortSignal): Promise<FollowEnd> {
    this.#followers.add(follower);
    const over = new Promise<"over">((resolve) => {
      const end = (): void => resolve("over");
      if (signal.aborted) end();
      else signal.addEventListener("abort", end, { once: true });
    });
    try {
      await this.#begin(follower, from);
      for (;;) {
        const behind = await this.#catchUp(follower, signal);
        if (behind === "slow") return { reason: "slow", next: follower.next };
        if (behind === "over" || (await Promise.race([over, behind.fell])) === "over")
          return { reason: "over", next: follower.next };
      }
    } finally {
      follower.fallBehind();
      this.#followers.delete(follower);
      if (this.#followers.size === 0) this.#wakeUp();
    }
  }

  async #begin(follower: Follower, from: Place | undefined): Promise<void> {
    const now = await this.#start();
    let gap: Gap | undefined;
    if (from !== undefined) {
      const verdict = judgePlace(from, await this.#settings.store.transact(readExtent));
      if (verdict !== "good") gap = verdict;
    }
    follower.next = from === undefined || gap !== undefined ? (this.#place ?? now) : from;
    follower.sink.begin(follower.next, gap);
  }

  /** Reads on by itself until it is where the reader is, then becomes live. */
  async #catchUp(
    follower: Follower,
    signal: AbortSignal,
  ): Promise<{ fell: Promise<"behind"> } | "slow" | "over"> {
    while (!signal.aborted) {
      // The reader runs as long as there is a follower, and knows its place from then on.
      const place = this.#place ?? follower.next;
      // A cursor of a replica that is further than this one: the reader's pages are cut to what comes after it.
      if (!isBefore(follower.next, place)) return { fell: follower.goLive() };
      const page = await this.#inTurn(() =>
        readPage(this.#settings.store, follower.next, place.row - 1, askedBy([follower])),
      ).catch((error: unknown) => this.#settings.log.debug({ error }, "a feed waits for the database"));
      if (page === undefined) {
        await pause(troubleMs, signal);
        continue;
      }
      if (page === "forgotten") {
        this.#skip(follower, this.#place ?? place);
        continue;
      }
      for (const item of page.items) {
        if (isWanted(follower.wanted, item))
          while (!follower.sink.send(item)) if (!(await follower.sink.taken())) return "slow";
        follower.next = item.next;
      }
      follower.next = page.next;
      if (!(await follower.sink.taken())) return "slow";
    }
    return "over";
  }

  #skip(follower: Follower, place: Place): void {
    follower.next = place;
    follower.sink.reset(place, "forgotten");
  }

  /** Where the reader is; starts it. */
  #start(): Promise<Place> {
    if (this.#settings.signal.aborted) return Promise.reject(stopping());
    if (this.#reading === undefined) this.#startReading();
    if (this.#place !== undefined) return Promise.resolve(this.#place);
    return this.#firstPlace.wait();
  }

  #startReading(): void {
    this.#reading = this.#read().finally(() => {
      this.#reading = undefined;
      // Somebody came while the last look was under way, and counts on the place where the reader was.
      if (this.#followers.size > 0 && !this.#settings.signal.aborted) return this.#startReading();
      this.#horizon = noHorizon;
      this.#place = undefined;
      this.#firstPlace.failed(stopping());
    });
  }

  async #read(): Promise<void> {
    const { store, signal, log, lookMs } = this.#settings;
    const stopHearing = store.wakes.hear(() => void setTimeout(() => this.#wakeUp(), soonMs));
    let isWell = true;
    while (this.#followers.size > 0 && !signal.aborted) {
      let restMs = lookMs;
      try {
        await this.#look();
        isWell = true;
        if (this.#horizon.noted !== undefined) restMs = soonMs;
      } catch (error) {
        if (isWell && !signal.aborted)
          log.warn({ error }, "the feed cannot be read; it goes on where it was");
        isWell = false;
        restMs = troubleMs;
        this.#firstPlace.failed(error);
      }
      if (this.#followers.size > 0 && !signal.aborted) await this.#rest(restMs);
    }
    stopHearing();
  }

  async #look(): Promise<void> {
    const { store } = this.#settings;
    const { settled: before, noted } = this.#horizon;
    const look = await store.transact(async (tx) => {
      // Where nothing is new no xid is used up.
      const { last } = await readExtent(tx);
      return last === before && noted === undefined ? undefined : lookAround(tx);
    });
    if (look !== undefined) this.#horizon = moveHorizon(this.#horizon, look);
    const { settled } = this.#horizon;
    if (settled === undefined) return;
    if (this.#place === undefined) {
      this.#place = after(settled);
      this.#firstPlace.found(this.#place);
    }
    while (this.#place.row <= settled) {
      const asked = askedBy(this.#followers);
      const page = await readPage(store, this.#place, settled, asked);
      if (page === "forgotten") {
        this.#place = after(settled);
        for (const one of this.#followers) if (one.isLive) this.#skip(one, this.#place);
      } else if (covers(asked, askedBy(this.#followers))) this.#publish(page);
      // Else somebody has come meanwhile who wants more of it than was read.
    }
  }

  #publish({ items, next }: Page): void {
    this.#place = next;
    for (const follower of this.#followers) {
      if (!follower.isLive) continue;
      for (const item of items) {
        if (!isBefore(follower.next, item.next)) continue;
        if (isWanted(follower.wanted, item) && !follower.sink.send(item)) {
          follower.fallBehind();
          break;
        }
        follower.next = item.next;
      }
      if (follower.isLive && isBefore(follower.next, next)) follower.next = next;
    }
  }

  #rest(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wakeUp = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#lastTurn.then(work);
    this.#lastTurn = turn.catch(() => {});
    return turn;
  }
}

function stopping(): MigError {
  return new MigError("shutting_down", "this replica stops; come again", { retryAfterMs: 1_000 });
}
