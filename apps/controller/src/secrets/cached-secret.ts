import { type Backoff, createBackoff } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { maybe } from "@mig/protocol";
import { createAlarmBell } from "./alarm.ts";
import { createFetcher } from "./fetch-in-time.ts";
import type {
  CachedSecret,
  CacheRules,
  HeldSecret,
  SecretPair,
  SecretSource,
  Validate,
} from "./held-secret.ts";
import type { FetchedSecret } from "./provider.ts";
import { quote, toMigError } from "./refuse.ts";
import { createRetirement } from "./retirement.ts";
import type { SecretValue } from "./secret-value.ts";

/**
 * One secret: fetched once for all who ask, asked for again in time, kept while its store is away, exchanged only for
 * a version that holds. `onIdle`: nobody has wanted it for so long that it need not be kept.
 */
export function createCachedSecret(
  source: SecretSource,
  rules: CacheRules,
  onIdle: () => void,
): CachedSecret {
  const { clock, log, random, staleMaxMs } = rules;
  const { text, refreshMs = rules.refreshMs } = source;
  const closing = new AbortController();
  const watchers = new Set<(pair: SecretPair) => void>();
  const backoff: Backoff = createBackoff({ firstMs: 1_000, capMs: refreshMs, random });
  const retirement = createRetirement(clock);
  const fetcher = createFetcher(source, rules, closing.signal);
  const bell = createAlarmBell(text, rules.onAlarm, log);
  let pair: SecretPair | undefined;
  /** When the store last said that `pair` is what it has. */
  let confirmedMs = 0;
  let replacedMs = 0;
  let usedMs = clock.monotonicMs();
  let validate: Validate | undefined;
  let wantsPrevious = false;
  let flight: Promise<SecretPair> | undefined;
  let nextFlight: Promise<SecretPair> | undefined;
  let failure: { error: MigError; untilMs: number } | undefined;
  /** The error of the newest version that did not hold. */
  let refused: MigError | undefined;
  let cancelTimer = (): void => {};

  const ageMs = (): number => clock.monotonicMs() - confirmedMs;

  function load(): Promise<SecretPair> {
    flight ??= loadOnce().finally(() => {
      flight = undefined;
    });
    return flight;
  }

  async function loadOnce(): Promise<SecretPair> {
    cancelTimer();
    try {
      pair = await settle(await fetcher.fetch());
      confirmedMs = clock.monotonicMs();
      failure = undefined;
      backoff.reset();
      bell.calm(`${text} is well again, version ${pair.current.version}`);
      schedule(refreshMs * (0.9 + 0.2 * random()));
      return pair;
    } catch (error) {
      const known = toMigError(error, text);
      noteFailure(known);
      throw known;
    }
  }

  async function settle({ value, version }: FetchedSecret): Promise<SecretPair> {
    if (pair?.current.value.equals(value) === true) {
      value.dispose();
      const { previous } = pair;
      const isOver = clock.monotonicMs() - replacedMs > rules.previousMs;
      if (isOver) retirement.retire(previous?.value);
      return {
        current: { ...pair.current, version },
        ...(previous === undefined || isOver ? {} : { previous }),
      };
    }
    await check(value, version);
    const previous = pair?.current ?? (await previousOf(version));
    if (closing.signal.aborted) {
      value.dispose();
      previous?.value.dispose();
      throw new MigError("secret_unavailable", `${text} came while the controller stops`);
    }
    retirement.retire(pair?.previous?.value);
    const current: HeldSecret = { value, version, fetchedAtMs: clock.nowMs() };
    const next: SecretPair = { current, ...maybe("previous", previous) };
    replacedMs = clock.monotonicMs();
    log.info({ reference: text, version, previous: previous?.version }, "a secret was read");
    pair = next;
    for (const watcher of watchers) callWatcher(watcher, next);
    return next;
  }

  async function check(value: SecretValue, version: string): Promise<void> {
    try {
      await validate?.(value);
    } catch (error) {
      // Only our own words: parsers quote what they could not read. They are taken before the value is forgotten.
      const why = error instanceof MigError ? quote(error.message) : "";
      value.dispose();
      // It could not be told whether it holds.
      if (error instanceof MigError && error.category === "transient") throw error;
      const stays = pair === undefined ? "" : `; version ${pair.current.version} stays in use`;
      refused = new MigError("secret_invalid", `${text}, version ${version}, cannot be used${why}${stays}`);
      throw refused;
    }
  }

  async function previousOf(version: string): Promise<HeldSecret | undefined> {
    if (!wantsPrevious) return undefined;
    try {
      const found = await fetcher.fetchPrevious(version);
      if (found === undefined) return undefined;
      await check(found.value, found.version);
      return { ...found, fetchedAtMs: clock.nowMs() };
    } catch (error) {
      log.info({ reference: text, error: toMigError(error, text) }, "the version before is not to be had");
      return undefined;
    }
  }

  function noteFailure(error: MigError): void {
    if (closing.signal.aborted) return;
    const waitMs = Math.max(error.retryAfterMs ?? 0, 1_000);
    failure = { error, untilMs: clock.monotonicMs() + waitMs };
    schedule(Math.max(Math.min(backoff.nextMs(), refreshMs), waitMs));
    log.warn({ reference: text, version: pair?.current.version, error }, "a secret could not be read");
    if (pair === undefined) return;
    const since = `${Math.round(ageMs() / 60_000)} min ago`;
    if (ageMs() > staleMaxMs)
      bell.ring("secret_expired", `${text}, last confirmed ${since}, is not used any more: ${error.message}`);
    else if (error === refused) bell.ring("secret_refused", error.message);
    else if (error.code !== "secret_unavailable" || ageMs() > rules.staleAlarmMs)
      bell.ring("secret_stale", `${text} is used as it was ${since}: ${error.message}`);
  }

  function schedule(delayMs: number): void {
    cancelTimer();
    if (closing.signal.aborted) return;
    cancelTimer = clock.after(delayMs, () => {
      // Nobody has wanted it for as long as it would be given out without its store.
      if (watchers.size === 0 && clock.monotonicMs() - usedMs > staleMaxMs) onIdle();
      else load().catch(() => {});
    });
  }

  function callWatcher(watcher: (pair: SecretPair) => void, news: SecretPair): void {
    try {
      watcher(news);
    } catch (error) {
      log.error(
        { error: toMigError(error, text), reference: text },
        "a new version was not taken by who watches it",
      );
    }
  }

  function use(): void {
    if (closing.signal.aborted)
      throw new MigError("secret_unavailable", `${text} is asked for while the controller stops`);
    usedMs = clock.monotonicMs();
  }

  async function demand(next: Validate): Promise<void> {
    if (pair !== undefined) {
      try {
        await next(pair.current.value);
      } catch (error) {
        throw toMigError(error, text, "secret_invalid");
      }
    }
    validate = next;
  }

  return {
    async get(options = {}) {
      use();
      if (options.previous === true) wantsPrevious = true;
      if (options.validate !== undefined && options.validate !== validate) await demand(options.validate);
      if (pair !== undefined && ageMs() <= staleMaxMs) return pair;
      if (failure !== undefined && clock.monotonicMs() < failure.untilMs) throw failure.error;
      return load();
    },
    async refresh() {
      use();
      if (flight === undefined) return pair !== undefined && ageMs() < rules.refreshGapMs ? pair : load();
      // What is under way may have asked before whatever the caller knows of: it waits for the one after.
      nextFlight ??= flight
        .catch(() => {})
        .then(() => {
          nextFlight = undefined;
          return load();
        });
      return nextFlight;
    },
    watch(onChange) {
      watchers.add(onChange);
      return () => {
        usedMs = clock.monotonicMs();
        watchers.delete(onChange);
      };
    },
    status: () => ({
      reference: text,
      version: pair?.current.version,
      previousVersion: pair?.previous?.version,
      ageMs: pair === undefined ? undefined : Math.round(ageMs()),
      problem: failure?.error.message,
    }),
    close() {
      closing.abort();
      cancelTimer();
      watchers.clear();
      retirement.close();
      pair?.current.value.dispose();
      pair?.previous?.value.dispose();
      pair = undefined;
    },
  };
}
