import { type FeedNews, type FeedQuery, followFeed, ApiError as RefusedError } from "@mig/api-client";
import { ApiError } from "../api.ts";
import { jsonText } from "../json-text.ts";
import { type Asked, apiVerb } from "../options.ts";
import { printable } from "../table.ts";
import { exitCodes, UsageError } from "../verb.ts";
import { fold, lineOf } from "./feed-line.ts";

const kinds = ["vm", "command", "event", "fleet"];

export const feedVerb = apiVerb({
  name: "feed",
  about:
    "What changes, as it does, a line each, until Ctrl-C. A lost connection is made again and goes on where it was.",
  options: {
    vm: { takes: "ID", help: "only of this VM" },
    org: { takes: "ID", help: "only of this organization" },
    pool: { takes: "ID", help: "only of this pool" },
    types: { takes: "LIST", help: `some of ${kinds.join(",")}` },
    after: { takes: "CURSOR", help: 'go on after this one, the "cursor" of a line of --json' },
  },
  examples: ["migctl feed --pool linux --types vm,command", "migctl feed --json | jq .type"],
  async run(asked) {
    const { io, text, has } = asked;
    const types = text("types");
    for (const word of types?.split(",") ?? [])
      if (!kinds.includes(word)) throw new UsageError(`--types takes some of ${kinds.join(",")}`);
    const given = {
      ...{ vm_id: text("vm"), org_id: text("org"), pool_id: text("pool"), types, after: text("after") },
    };
    for await (const news of newsOf(asked, given)) {
      if (news.kind === "item")
        io.out(
          has("json")
            ? `${jsonText({ ...news.item, cursor: news.cursor })}\n`
            : fold(lineOf(news.item), io.width),
        );
      else tellTrouble(asked, news);
    }
    return exitCodes.done;
  },
});

/** The feed until Ctrl-C. What cannot be had at all is told at once; later troubles pass. */
export async function* newsOf(
  { api, io }: Asked,
  given: Readonly<Record<string, string | undefined>>,
): AsyncGenerator<FeedNews> {
  const query: FeedQuery = Object.fromEntries(
    Object.entries(given).filter(([, value]) => value !== undefined),
  );
  let hasBegun = false;
  try {
    for await (const news of followFeed({ url: api.url, token: api.token, query, signal: io.signal })) {
      if (news.kind === "lost" && !hasBegun)
        throw new ApiError(`there is no feed to be had: ${news.reason}; is --url right?`);
      hasBegun ||= news.kind === "begun";
      yield news;
    }
  } catch (error) {
    if (!(error instanceof RefusedError)) throw error;
    const hint =
      error.status === 401 ? "; log in with: migctl login URL (or give a key with --token-file)" : "";
    throw new ApiError(`the controller refused: ${error.message}${hint}`, error.status);
  }
}

/** What was missed is told as a line of its own, and why it is quiet for a while. */
export function tellTrouble({ io, has }: Asked, news: FeedNews): void {
  if (news.kind !== "gap" && news.kind !== "lost") return;
  const { kind: type, cursor } = news;
  const message =
    news.kind === "gap" ? news.message : `${news.reason}; again in ${(news.waitMs / 1000).toFixed(1)} s`;
  io.out(
    has("json")
      ? `${jsonText({ type, message, cursor })}\n`
      : fold(`-- ${type === "gap" ? "missed some" : "connection lost"}: ${printable(message)}`, io.width),
  );
}
