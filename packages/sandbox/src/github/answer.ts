/** What a request gets: what it deserves, or what a fault makes of it. */
import { setTimeout as delay } from "node:timers/promises";
import type { GithubClock } from "./clock.ts";
import { untilGone } from "./deliver.ts";
import type { Fault } from "./fault-types.ts";
import { mergePatch } from "./faults.ts";
import { type Call, Refusal, type Reply, type Route, route } from "./http.ts";
import type { Installs } from "./installs.ts";
import { errorBody } from "./rest-shapes.ts";
import type { GithubOptions } from "./types.ts";

export interface Answering {
  readonly options: GithubOptions;
  readonly installs: Installs;
  readonly routes: readonly Route[];
}

const noUserAgent =
  "Request forbidden by administrative rules. Please make sure your request has a User-Agent header";
const redirectsUrl = "https://docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api";

export interface Question {
  readonly fault: Fault | undefined;
  /** A reply when the request could not even be read. */
  readonly call: Call | Reply;
  /** Counts the call, and refuses it when it is one too many. */
  readonly limited: () => Reply | undefined;
  readonly waitMs: number;
  readonly gone: AbortSignal;
}

export async function answerOrFail(serving: Answering, question: Question): Promise<Reply | "cut"> {
  const { fault, call, limited, gone } = question;
  if (fault?.drop === "before") return "cut";
  const waitMs = question.waitMs + (fault?.delayMs ?? 0);
  if (waitMs > 0) await delay(waitMs, undefined, { signal: gone }).catch(() => {});
  if (fault?.hang) {
    await untilGone(gone);
    return "cut";
  }
  const refused = limited();
  if (fault?.status !== undefined) {
    const { status, body = { message: "Fault of the stand-in" }, headers = {} } = fault;
    return { status, body, headers };
  }
  if (refused) return refused;
  if ("status" in call) return call;
  const reply = await answer(() => answerRest(serving, call));
  if (fault?.drop === "after") return "cut";
  const headers = { ...reply.headers, ...fault?.headers };
  return { ...reply, headers, body: fault?.merge ? mergePatch(reply.body, fault.merge) : reply.body };
}

function answerRest({ installs, routes }: Answering, call: Call): Reply | Promise<Reply> {
  if (!call.userAgent) throw new Refusal(403, noUserAgent);
  const moved = installs.movedPath(call.path);
  if (moved === undefined) return route(routes, { ...call, path: installs.namedPath(call.path) });
  // A GET is sent on for good; everything else for this time, so that it stays what it is.
  const location = call.baseUrl + call.prefix + moved + (call.query.size === 0 ? "" : `?${call.query}`);
  const body = { message: "Moved Permanently", url: location, documentation_url: redirectsUrl };
  return { status: call.method === "GET" ? 301 : 307, body, headers: { location } };
}

export async function answer(work: () => Reply | Promise<Reply>): Promise<Reply> {
  try {
    return await work();
  } catch (error) {
    return replyToError(error);
  }
}

export function replyToError(error: unknown): Reply {
  if (error instanceof Refusal)
    return { status: error.status, body: errorBody(error), headers: error.headers };
  const message = error instanceof Error ? error.message : String(error);
  return { status: 500, body: { message: `The GitHub stand-in failed: ${message}` } };
}

/** Fills in what is in braces (`Fault.headers`). */
export function fill(
  headers: Readonly<Record<string, string>>,
  { clock, target, port }: { clock: GithubClock; target: string; port: string },
): Record<string, string> {
  const filled = Object.entries(headers).map(([name, value]) => [
    name,
    value
      .replace(/\{date([+-]\d+)\}/, (_all, seconds: string) => clock.httpDate(Number(seconds)))
      .replace(/\{epoch([+-]\d+)\}/, (_all, seconds: string) => String(clock.epoch(Number(seconds))))
      .replace("{target}", target)
      .replace("{port}", port),
  ]);
  return Object.fromEntries(filled);
}
