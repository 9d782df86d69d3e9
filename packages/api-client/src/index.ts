export {
  type ApiAnswer,
  type ApiClient,
  type ApiClientSettings,
  ApiError,
  createApiClient,
} from "./client.ts";
export { type FeedItem, type FeedNews, type FeedQuery, type FeedSettings, followFeed } from "./feed.ts";
export type { Operations } from "./generated.ts";
