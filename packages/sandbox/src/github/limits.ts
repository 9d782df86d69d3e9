/**
 * GitHub's rate limits as it counts them (runner-contract §8.5): buckets of an hour for each App and each of its
 * installations, of which registrations have one of their own; and secondary limits on points and on content made in
 * the latest minute, and on calls at the same time. A secondary limit, once hit, holds for a while for that caller.
 */
import type { GithubClock } from "./clock.ts";
import type { Call, Reply } from "./http.ts";
import { errorBody } from "./rest-shapes.ts";

export interface GithubLimits {
  readonly corePerHour?: number;
  readonly registrationsPerHour?: number;
  /** How much of an hour's calls others have used up already. */
  readonly usedAtStart?: number;
  /** A GET is one point, everything else five. */
  readonly pointsPerMinute?: number;
  /** POST, PUT and PATCH. */
  readonly contentPerMinute?: number;
  readonly contentPerHour?: number;
  readonly concurrent?: number;
  /** 403 and 429 both happen. Default 403. */
  readonly refuseWith?: 403 | 429;
  /** How long a secondary limit holds. Default: a minute. */
  readonly blockMs?: number;
  /** Whether it says so in `Retry-After`. Default true. */
  readonly tellsRetryAfter?: boolean;
  /** Shorter ones for tests that cannot wait. An hour is sixty of them. */
  readonly minuteMs?: number;
}

/** What GitHub documents, all at once. */
export const githubLimits = {
  corePerHour: 5_000,
  registrationsPerHour: 10_000,
  pointsPerMinute: 900,
  contentPerMinute: 80,
  contentPerHour: 500,
  concurrent: 100,
} as const satisfies GithubLimits;

interface Bucket {
  used: number;
  endsAtMs: number;
}

/** What one caller did lately, oldest first, at most an hour of it. */
interface Actor {
  readonly lately: { readonly atMs: number; readonly points: number; readonly isContent: boolean }[];
  readonly buckets: Map<string, Bucket>;
  blockedUntilMs: number;
  underWay: number;
}

export interface Counted {
  readonly headers: Readonly<Record<string, string>>;
  readonly refusal?: Reply;
  /** To be called when the answer is out. */
  done(): void;
}

const secondaryUrl =
  "https://docs.github.com/free-pro-team@latest/rest/overview/rate-limits-for-the-rest-api#about-secondary-rate-limits";
const primaryUrl = "https://docs.github.com/rest/overview/rate-limits-for-the-rest-api";

export class Limits {
  readonly #limits: GithubLimits;
  readonly #minuteMs: number;
  /** Headers are sent by everyone but a GitHub Enterprise Server, which has no limits unless told. */
  readonly #isSilent: boolean;
  /** Without limits the buckets are counted and never empty. */
  readonly #isEnforced: boolean;
  readonly #actors = new Map<string, Actor>();
  readonly #clock: GithubClock;

  constructor(limits: GithubLimits | undefined, isServer: boolean, clock: GithubClock) {
    this.#limits = limits ?? {};
    this.#isEnforced = limits !== undefined;
    this.#isSilent = isServer && limits === undefined;
    this.#minuteMs = limits?.minuteMs ?? 60_000;
    this.#clock = clock;
  }

  count(actorName: string, call: Pick<Call, "method" | "path">, requestId: string): Counted {
    const actor = this.#actor(actorName);
    const nowMs = Date.now();
    const isRegistration = /(-token|generate-jitconfig)$/.test(call.path);
    const resource = isRegistration ? "actions_runner_registration" : "core";
    const limit = this.#perHour(resource);
    const bucket = this.#bucket(actor, resource, nowMs);
    const refuse = (
      message: string,
      url: string,
      headers: Readonly<Record<string, string>> = {},
    ): Counted => {
      const body = { ...errorBody({ status: this.#status, message }), documentation_url: url };
      const given = { ...this.#headers(resource, limit, bucket), ...headers };
      return { headers: given, refusal: { status: this.#status, body }, done: () => {} };
    };

    const secondary = this.#isEnforced ? this.#secondary(actor, call.method, nowMs) : undefined;
    if (secondary !== undefined) {
      const seconds = Math.max(1, Math.ceil((secondary - nowMs) / 1000));
      const told = this.#limits.tellsRetryAfter === false ? {} : { "retry-after": String(seconds) };
      return refuse(
        `You have exceeded a secondary rate limit. Please wait a few minutes before you try again. If you reach out to GitHub Support for help, please include the request ID ${requestId}.`,
        secondaryUrl,
        told,
      );
    }
    if (this.#isEnforced && bucket.used >= limit)
      return refuse(
        `API rate limit exceeded for ${actorName.replace(/^installation/, "installation ID")}.`,
        primaryUrl,
      );
    bucket.used += 1;
    const points = pointsOf(call.method);
    if (this.#isEnforced) actor.lately.push({ atMs: nowMs, points, isContent: isContent(call.method) });
    actor.underWay += 1;
    let isDone = false;
    return {
      headers: this.#headers(resource, limit, bucket),
      done() {
        if (!isDone) actor.underWay -= 1;
        isDone = true;
      },
    };
  }

  /** An answer 304 costs nothing of the hour (runner-contract §8.5). */
  giveBack(actorName: string): void {
    const bucket = this.#actor(actorName).buckets.get("core");
    if (bucket) bucket.used = Math.max(0, bucket.used - 1);
  }

  /** For `GET /rate_limit`, which is free. */
  overview(
    actorName: string,
  ): Record<string, { limit: number; used: number; remaining: number; reset: number }> {
    const nowMs = Date.now();
    const entries = (["core", "actions_runner_registration"] as const).map((resource) => {
      const bucket = this.#bucket(this.#actor(actorName), resource, nowMs);
      const limit = this.#perHour(resource);
      const { used } = bucket;
      return [
        resource,
        { limit, used, remaining: Math.max(0, limit - used), reset: this.#reset(bucket) },
      ] as const;
    });
    return Object.fromEntries(entries);
  }

  get #status(): 403 | 429 {
    return this.#limits.refuseWith ?? 403;
  }

  #perHour(resource: string): number {
    return resource === "core"
      ? (this.#limits.corePerHour ?? githubLimits.corePerHour)
      : (this.#limits.registrationsPerHour ?? githubLimits.registrationsPerHour);
  }

  #actor(name: string): Actor {
    const known = this.#actors.get(name);
    if (known) return known;
    const actor: Actor = { lately: [], buckets: new Map(), blockedUntilMs: 0, underWay: 0 };
    this.#actors.set(name, actor);
    return actor;
  }

  #bucket(actor: Actor, resource: string, nowMs: number): Bucket {
    const known = actor.buckets.get(resource);
    if (known && known.endsAtMs > nowMs) return known;
    const used = known ? 0 : (this.#limits.usedAtStart ?? 0);
    const bucket = { used, endsAtMs: nowMs + 60 * this.#minuteMs };
    actor.buckets.set(resource, bucket);
    return bucket;
  }

  /** Until when the caller is to stay away, if at all. */
  #secondary(actor: Actor, method: string, nowMs: number): number | undefined {
    if (actor.blockedUntilMs > nowMs) return actor.blockedUntilMs;
    const { pointsPerMinute, contentPerMinute, contentPerHour, concurrent } = this.#limits;
    const hourAgoMs = nowMs - 60 * this.#minuteMs;
    const first = actor.lately.findIndex(({ atMs }) => atMs > hourAgoMs);
    actor.lately.splice(0, first < 0 ? actor.lately.length : first);
    let points = pointsOf(method);
    let inMinute = Number(isContent(method));
    for (let i = actor.lately.length - 1; i >= 0; i -= 1) {
      const one = actor.lately[i];
      if (one === undefined || one.atMs <= nowMs - this.#minuteMs) break;
      points += one.points;
      inMinute += Number(one.isContent && isContent(method));
    }
    const isOver =
      points > (pointsPerMinute ?? Number.POSITIVE_INFINITY) ||
      inMinute > (contentPerMinute ?? Number.POSITIVE_INFINITY) ||
      actor.underWay >= (concurrent ?? Number.POSITIVE_INFINITY) ||
      (contentPerHour !== undefined &&
        isContent(method) &&
        actor.lately.filter((one) => one.isContent).length >= contentPerHour);
    if (!isOver) return undefined;
    actor.blockedUntilMs = nowMs + (this.#limits.blockMs ?? this.#minuteMs);
    return actor.blockedUntilMs;
  }

  #headers(resource: string, limit: number, bucket: Bucket): Record<string, string> {
    if (this.#isSilent) return {};
    return {
      "x-ratelimit-limit": String(limit),
      "x-ratelimit-remaining": String(Math.max(0, limit - bucket.used)),
      "x-ratelimit-used": String(bucket.used),
      "x-ratelimit-reset": String(this.#reset(bucket)),
      "x-ratelimit-resource": resource,
    };
  }

  /** The first whole second at which the bucket is full again. */
  #reset(bucket: Bucket): number {
    return Math.ceil((bucket.endsAtMs + this.#clock.skewMs) / 1000);
  }
}

function pointsOf(method: string): number {
  return method === "GET" || method === "HEAD" || method === "OPTIONS" ? 1 : 5;
}

function isContent(method: string): boolean {
  return method === "POST" || method === "PUT" || method === "PATCH";
}
