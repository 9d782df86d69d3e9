import { type ErrorCode, MigError } from "@mig/lifecycle";
import { WireError } from "@mig/protocol";

/**
 * Every code with the status that HTTP answers it with (DESIGN §8). Those of the agent never come here; if one
 * did it would be our mistake.
 */
const statusOf = {
  invalid_request: 400,
  unauthenticated: 401,
  forbidden: 403,
  vm_mismatch: 403,
  not_found: 404,
  method_not_allowed: 405,
  conflict: 409,
  superseded: 409,
  incarnation_lost: 410,
  payload_too_large: 413,
  unsupported_media_type: 415,
  refused: 422,
  rate_limited: 429,
  overloaded: 503,
  storage_unavailable: 503,
  shutting_down: 503,
  internal: 500,
  out_of_order: 409,
  github_unauthorized: 502,
  github_forbidden: 502,
  github_not_installed: 502,
  github_rate_limited: 503,
  github_unavailable: 503,
  github_conflict: 503,
  settings_invalid: 500,
  prerequisite_missing: 500,
  controller_unreachable: 500,
  controller_refused: 500,
  state_unwritable: 500,
  runner_not_installed: 500,
  runner_configure_failed: 500,
  runner_start_failed: 500,
  runner_version_deprecated: 500,
  runner_crashed: 500,
  runner_install_failed: 500,
  resources_low: 500,
  clock_skewed: 500,
  github_unreachable: 500,
  runner_session_conflict: 500,
  runner_registration_deleted: 500,
  runner_updating: 500,
  job_stalled: 500,
  drain_overdue: 500,
  identity_unavailable: 503,
  secret_unavailable: 503,
  secret_forbidden: 503,
  secret_invalid: 503,
} as const satisfies Record<ErrorCode, number>;

export interface ErrorReply {
  status: number;
  retryAfterMs: number | undefined;
  body: {
    error: {
      code: ErrorCode;
      message: string;
      category: string;
      request_id: string;
      retry_after_ms?: number;
    };
  };
}

const defaultRetryMs = 1_000;

/** The one shape of an error. What is not ours says nothing of itself: the log has it under the request id. */
export function renderError(thrown: unknown, requestId: string): ErrorReply {
  const error = toMigError(thrown);
  const status = statusOf[error.code];
  const isLater = status === 429 || status === 503;
  const retryAfterMs = error.retryAfterMs ?? (isLater ? defaultRetryMs : undefined);
  const message = status === 500 ? "the controller failed; its log has the request_id" : error.message;
  return {
    status,
    retryAfterMs,
    body: {
      error: {
        code: status === 500 ? "internal" : error.code,
        message,
        category: error.category,
        request_id: requestId,
        ...(retryAfterMs === undefined ? {} : { retry_after_ms: retryAfterMs }),
      },
    },
  };
}

/** Fastify's own errors carry a status: it read the request and would not take it. */
export function toMigError(thrown: unknown): MigError {
  if (thrown instanceof MigError) return thrown;
  if (thrown instanceof WireError) return new MigError("invalid_request", thrown.message, { cause: thrown });
  const status = statusIn(thrown);
  if (status === undefined || status < 400 || status >= 500) {
    return new MigError("internal", "unexpected", { cause: thrown });
  }
  const message = (thrown as Error).message;
  if (status === 413)
    return new MigError("payload_too_large", "the body has at most 1 MiB", { cause: thrown });
  if (status === 415) {
    return new MigError("unsupported_media_type", "send JSON with content-type: application/json", {
      cause: thrown,
    });
  }
  return new MigError(status === 404 ? "not_found" : "invalid_request", message, { cause: thrown });
}

function statusIn(thrown: unknown): number | undefined {
  if (!(thrown instanceof Error) || !("statusCode" in thrown)) return undefined;
  return typeof thrown.statusCode === "number" ? thrown.statusCode : undefined;
}
