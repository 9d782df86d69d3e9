import { ApiError, parse, toError } from "./client.ts";
import { readEventStream, type StreamedEvent } from "./event-stream.ts";
import type { Operations } from "./generated.ts";

export type FeedItem = Operations["GET /api/v1/feed"]["item"];
export type FeedQuery = NonNullable<Operations["GET /api/v1/feed"]["query"]>;

/**
 * item   something has changed; `cursor` is where whoever has dealt with it goes on
 * begun  the feed is open, for the first time or again: what changes from now on will come
 * gap    something between was missed and will not come: look at the lists again
 * lost   the connection is lost, or was ended by the controller; it is tried again after `waitMs`, from `cursor`
 */
export type FeedNews =
  | { readonly kind: "item"; readonly item: FeedItem; readonly cursor: string | undefined }
  | { readonly kind: "begun"; readonly cursor: string | undefined }
  | { readonly kind: "gap"; readonly message: string; readonly cursor: string | undefined }
  | {
      readonly kind: "lost";
      readonly reason: string;
      readonly waitMs: number;
      readonly cursor: string | undefined;
    };

export interface FeedSettings {
  /** As in `https://mig.example.com`. */
  readonly url: string;
  /** Asked for each connection when it is a function. */
  readonly token?: string | (() => string | undefined | Promise<string | undefined>);
  readonly query?: FeedQuery;
  readonly signal?: AbortSignal;
  /** A connection that says nothing for so long is dead; 45 s without it, three times what the controller lets pass. */
  readonly silentMs?: number;
  readonly fetch?: typeof fetch;
}

const silentMsDefault = 45_000;
const firstRetryMs = 500;
const retryMsMax = 30_000;
/** What another attempt may mend. */
const passing: readonly number[] = [0, 429, 500, 502, 503, 504];

/**
 * Follows the live feed until `signal` aborts, over as many connections as it takes: each goes on where the last one
 * was, so that nothing is left out or told twice. Throws ApiError when the controller will not have it (400, 401, 403).
 */
export async function* followFeed(settings: FeedSettings): AsyncGenerator<FeedNews> {
  const { query = {}, signal } = settings;
  const isOver = (): boolean => signal?.aborted === true;
  let cursor = query.after;
  let failures = 0;
  while (!isOver()) {
    let reason = "the connection ended";
    let hintMs: number | undefined;
    const silence = new AbortController();
    const stop = signal === undefined ? silence.signal : AbortSignal.any([signal, silence.signal]);
    const watchdog = watchSilence(silence, settings.silentMs ?? silentMsDefault);
    try {
      const answer = await open(settings, cursor, stop);
      for await (const said of readEventStream(answer)) {
        watchdog.heard();
        if (isOver()) return;
        hintMs = said.retryMs ?? hintMs;
        // An item's cursor counts once it has been dealt with, which is when more is asked for.
        const news = newsOf(said);
        if (news !== undefined) {
          failures = 0;
          yield news;
        }
        cursor = said.id ?? cursor;
        if (said.event === "go_away" || said.event === "dropped") reason = reasonOf(said);
      }
    } catch (error) {
      if (isOver()) return;
      if (error instanceof ApiError) {
        if (!passing.includes(error.status)) throw error;
        hintMs = error.retryAfterMs ?? hintMs;
        reason = error.message;
      } else reason = silence.signal.aborted ? "the connection fell silent" : textOf(error);
    } finally {
      watchdog.stop();
      silence.abort();
    }
    if (isOver()) return;
    const waitMs = waitOf(failures, hintMs);
    failures += 1;
    yield { kind: "lost", reason, waitMs, cursor };
    await pause(waitMs, signal);
  }
}

async function open(
  { url, token, query = {}, fetch: ask = fetch }: FeedSettings,
  cursor: string | undefined,
  signal: AbortSignal,
): Promise<AsyncIterable<Uint8Array>> {
  const target = new URL("/api/v1/feed", url);
  for (const [name, value] of Object.entries({ ...query, after: cursor }))
    if (value !== undefined) target.searchParams.set(name, value);
  const bearer = typeof token === "function" ? await token() : token;
  let answer: Response;
  try {
    answer = await ask(target, {
      signal,
      // A token goes to the host that it is for and nowhere else.
      redirect: "error",
      headers: {
        accept: "text/event-stream",
        ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
      },
    });
  } catch (error) {
    throw new ApiError(0, { code: "unreachable", message: `${url} does not answer (${textOf(error)})` });
  }
  const isStream = answer.headers.get("content-type")?.startsWith("text/event-stream") === true;
  if (answer.ok && isStream && answer.body !== null) return answer.body;
  if (answer.ok)
    throw new ApiError(answer.status, { code: "unknown", message: `what answers at ${url} is no feed` });
  throw toError(answer.status, parse(await answer.text()));
}

function newsOf({ event, id: cursor, data }: StreamedEvent): FeedNews | undefined {
  const content = event === undefined ? undefined : (parse(data) as Record<string, unknown> | undefined);
  switch (event) {
    case "vm":
    case "command":
    case "event":
    case "fleet":
      return content === undefined
        ? undefined
        : { kind: "item", item: content as unknown as FeedItem, cursor };
    case "hello":
      return { kind: "begun", cursor };
    case "reset":
      return { kind: "gap", message: String(content?.["message"] ?? "something was missed"), cursor };
    default:
      return undefined;
  }
}

function reasonOf({ data }: StreamedEvent): string {
  const { reason } = (parse(data) ?? {}) as { reason?: unknown };
  return `the controller ended it (${String(reason ?? "no reason given")})`;
}

/** Somewhere in a window that doubles; what the controller asks for is never shortened. */
function waitOf(failures: number, hintMs: number | undefined): number {
  const windowMs = Math.min(retryMsMax, firstRetryMs * 2 ** Math.min(failures, 10));
  return Math.round(
    failures === 0 && hintMs !== undefined ? hintMs : Math.max(hintMs ?? 0, Math.random() * windowMs),
  );
}

function watchSilence(silence: AbortController, afterMs: number): { heard(): void; stop(): void } {
  const arm = () => setTimeout(() => silence.abort(), afterMs);
  let timer = arm();
  return {
    heard() {
      clearTimeout(timer);
      timer = arm();
    },
    stop: () => clearTimeout(timer),
  };
}

function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    if (signal?.aborted === true) done();
    else signal?.addEventListener("abort", done, { once: true });
  });
}

function textOf(error: unknown): string {
  const cause = error instanceof Error ? (error.cause ?? error) : error;
  if (!(cause instanceof Error)) return "no reason given";
  return "code" in cause && typeof cause.code === "string" ? cause.code : cause.message.slice(0, 120);
}
