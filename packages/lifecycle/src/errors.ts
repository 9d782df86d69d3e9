/**
 * The one error of the system. `code` says what happened, `category` what to do about it (seed 001, "Error
 * Classification"). Foreign errors are translated into it at the edge that met them and rendered at the edge that
 * answers; nothing between looks at status codes.
 */
export const errorCategories = ["transient", "permanent", "misconfig", "infrastructure", "user"] as const;
export type ErrorCategory = (typeof errorCategories)[number];

/** Every code with its category. A new code needs a line here and, when HTTP may answer it, one in `listen/error.ts`. */
export const errorCodes = {
  // What a caller did.
  invalid_request: "user",
  unauthenticated: "permanent",
  forbidden: "permanent",
  vm_mismatch: "permanent",
  not_found: "user",
  method_not_allowed: "user",
  conflict: "user",
  superseded: "transient",
  incarnation_lost: "permanent",
  payload_too_large: "user",
  unsupported_media_type: "user",
  refused: "user",
  rate_limited: "transient",
  // What the controller could not do.
  overloaded: "transient",
  storage_unavailable: "transient",
  shutting_down: "transient",
  internal: "infrastructure",
  out_of_order: "transient",
  /** Whoever could confirm a proof of identity does not answer. */
  identity_unavailable: "transient",
  secret_unavailable: "transient",
  secret_forbidden: "misconfig",
  secret_invalid: "misconfig",
  // What GitHub said.
  github_unauthorized: "misconfig",
  github_forbidden: "misconfig",
  github_not_installed: "misconfig",
  github_rate_limited: "transient",
  github_unavailable: "transient",
  github_conflict: "transient",
  // What the agent met.
  settings_invalid: "misconfig",
  prerequisite_missing: "infrastructure",
  controller_unreachable: "transient",
  controller_refused: "permanent",
  state_unwritable: "infrastructure",
  resources_low: "infrastructure",
  clock_skewed: "infrastructure",
  github_unreachable: "transient",
  runner_session_conflict: "infrastructure",
  runner_registration_deleted: "permanent",
  runner_updating: "transient",
  job_stalled: "infrastructure",
  drain_overdue: "infrastructure",
  runner_not_installed: "misconfig",
  runner_install_failed: "transient",
  runner_configure_failed: "transient",
  runner_start_failed: "transient",
  runner_version_deprecated: "misconfig",
  runner_crashed: "infrastructure",
} as const satisfies Record<string, ErrorCategory>;
export type ErrorCode = keyof typeof errorCodes;

export interface ErrorDetails {
  cause?: unknown;
  /** Not earlier than this; from the server's own hint where there is one. */
  retryAfterMs?: number;
}

export class MigError extends Error {
  override name = "MigError";
  readonly code: ErrorCode;
  readonly category: ErrorCategory;
  readonly retryAfterMs: number | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.category = errorCodes[code];
    this.retryAfterMs = details.retryAfterMs;
  }
}

/** Whether another attempt may succeed without anybody changing anything (seed 001, "Retry Strategy"). */
export function isRetryable(category: ErrorCategory): boolean {
  return category === "transient" || category === "infrastructure";
}
