export {
  type ApiAnswer,
  type ApiClient,
  type ApiClientSettings,
  ApiError,
  createApiClient,
} from "./client.ts";
export type { Operations } from "./generated.ts";
