import { type Clock, createBackoff, hideValue, type Log, systemClock } from "@mig/kit";
import { MigError } from "@mig/lifecycle";
import { refusalOf } from "./refusal.ts";

export interface FreshToken {
  readonly accessToken: string;
  readonly lifeMs: number;
}

export interface AccessTokenSettings {
  /** Renews, or joins. Called one at a time. */
  obtain(): Promise<FreshToken>;
  readonly retryFirstMs: number;
  readonly retryCapMs: number;
  /** After a refusal, which is about this VM and is not mended by asking often. */
  readonly refusedFirstMs?: number;
  readonly refusedCapMs?: number;
  readonly log: Log;
  readonly clock?: Clock;
}

/**
 * The VM's token, always a good one. Its age is measured by our monotonic clock from before it was asked for, so a VM
 * whose clock is days wrong renews in time all the same.
 *
 * none     whoever needs it waits for the one request that is under way
 * good     given out; at two thirds of its life another one is asked for, beside everything else
 * failing  the last request failed: until the backoff is over nobody asks again, and where no token is good any more
 *          callers get that failure at once
 */
export interface AccessToken {
  bearer(): Promise<string>;
  /** The controller did not accept it: the next caller gets another one. */
  doubt(): void;
  /** The one that would be given out now. */
  newest(): string | undefined;
  /** This one has ended: another one first, unless there is another one already. */
  outdate(text: string): void;
  close(): void;
}

/** Requests that begin now should still arrive in time. */
const marginMs = 5_000;
/** A token this young is not the reason why somebody is refused. */
const youngMs = 5_000;

export function createAccessToken(settings: AccessTokenSettings): AccessToken {
  const { obtain, log, clock = systemClock, refusedFirstMs = 30_000, refusedCapMs = 600_000 } = settings;
  const backoff = createBackoff({ firstMs: settings.retryFirstMs, capMs: settings.retryCapMs });
  const refused = createBackoff({ firstMs: refusedFirstMs, capMs: refusedCapMs });
  let token: { text: string; bornMs: number; lifeMs: number; forget: () => void } | undefined;
  let failure: { error: MigError; untilMs: number } | undefined;
  let pending: Promise<string> | undefined;
  let cancel = (): void => {};
  let isClosed = false;

  const drop = (): void => {
    token?.forget();
    token = undefined;
  };
  const again = (afterMs: number): void => {
    cancel();
    if (isClosed) return;
    // Its failure is logged there, and told to whoever needs a token.
    cancel = clock.after(afterMs, () => void request().catch(() => {}));
  };
  const take = ({ accessToken, lifeMs }: FreshToken, bornMs: number): string => {
    drop();
    token = { text: accessToken, bornMs, lifeMs, forget: hideValue(accessToken) };
    failure = undefined;
    backoff.reset();
    refused.reset();
    again(Math.max(0, (lifeMs * 2) / 3 - (clock.monotonicMs() - bornMs)));
    return accessToken;
  };
  const fail = (thrown: unknown): never => {
    const error =
      thrown instanceof MigError
        ? thrown
        : new MigError("internal", `The VM's token could not be asked for: ${String(thrown)}`, {
            cause: thrown,
          });
    const refusal = refusalOf(error);
    const waitMs = (refusal === undefined ? backoff : refused).nextMs(error.retryAfterMs);
    log.warn({ error, retry_in_ms: Math.round(waitMs) }, "The controller gave this VM no token.");
    failure = { error, untilMs: clock.monotonicMs() + waitMs };
    // Forbidden is final, whatever the old one says; otherwise it is good until its end.
    if (refusal?.code === "forbidden") drop();
    if (token !== undefined) again(waitMs);
    throw error;
  };
  const request = (): Promise<string> => {
    const bornMs = clock.monotonicMs();
    pending ??= obtain()
      .then((fresh) => take(fresh, bornMs), fail)
      .finally(() => {
        pending = undefined;
      });
    return pending;
  };

  return {
    async bearer() {
      const nowMs = clock.monotonicMs();
      if (token !== undefined && nowMs - token.bornMs < token.lifeMs - Math.min(marginMs, token.lifeMs / 10))
        return token.text;
      const leftMs = failure === undefined ? 0 : failure.untilMs - nowMs;
      if (failure === undefined || leftMs <= 0 || pending !== undefined) return request();
      const { code, message } = failure.error;
      throw new MigError(code, message, { cause: failure.error, retryAfterMs: leftMs });
    },
    doubt() {
      if (token !== undefined && clock.monotonicMs() - token.bornMs >= youngMs) drop();
    },
    newest: () => token?.text,
    outdate(text) {
      if (token?.text !== text) return;
      drop();
      // Its renewal may have failed a moment ago; whoever comes now is worth one more try.
      failure = undefined;
    },
    close() {
      isClosed = true;
      cancel();
      drop();
    },
  };
}
