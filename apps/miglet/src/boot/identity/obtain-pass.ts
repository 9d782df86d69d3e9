import type { Log } from "@mig/kit";
import { type ErrorCode, MigError } from "@mig/lifecycle";
import type { JoinCalls, JoinProof, Pass } from "./join.ts";

export interface ObtainSettings {
  readonly calls: JoinCalls;
  /** This key has joined before, as far as we know. */
  hasJoined(): boolean;
  /** It may have, and nobody wrote it down. */
  readonly mayHaveJoined: boolean;
  /** Undefined: there is none. */
  proof(): Promise<JoinProof | undefined>;
  readonly log: Log;
}

/**
 * Renews where this key has joined; joins where it has not, or where the controller does not know it any more. An
 * enrolment token may be good for one VM only, so it is never spent while the key alone will do.
 */
export function createObtainPass({ calls, hasJoined, mayHaveJoined, proof, log }: ObtainSettings) {
  return async (): Promise<Pass> => {
    let refusal: MigError | undefined;
    if (mayHaveJoined || hasJoined()) {
      try {
        return await calls.renew();
      } catch (error) {
        if (!isRefusal(error)) throw error;
        refusal = error;
      }
    }
    const proved = await proof();
    if (proved === undefined)
      throw refusal !== undefined && hasJoined()
        ? refusal
        : new MigError(
            "forbidden",
            "This VM has not joined and has no enrolment token: set join.token_path or join.token.",
          );
    if (refusal !== undefined && hasJoined())
      log.warn({ error: refusal }, "The VM's token cannot be renewed; the VM joins again.");
    try {
      return await calls.join(proved);
    } catch (error) {
      throw explain(error, hasJoined() ? refusal : undefined);
    }
  };
}

const isRefusal = (error: unknown): error is MigError =>
  error instanceof MigError && (error.code === "unauthenticated" || error.code === "forbidden");

/** What the life makes of it: nobody but an operator mends the first ones, and only another address the second. */
const meaning: Partial<Record<ErrorCode, ErrorCode>> = {
  conflict: "forbidden",
  refused: "forbidden",
  invalid_request: "forbidden",
  not_found: "controller_refused",
  method_not_allowed: "controller_refused",
};

function explain(error: unknown, before: MigError | undefined): unknown {
  if (!(error instanceof MigError)) return error;
  const code = meaning[error.code] ?? error.code;
  const isOld = error.code === "not_found" || error.code === "method_not_allowed";
  const words = isOld
    ? `${error.message} (this controller lets no VM join: use controller.auth)`
    : error.message;
  const message = before === undefined ? words : `${words}; and its token was not renewed: ${before.message}`;
  return new MigError(code, message, {
    cause: error,
    ...(error.retryAfterMs === undefined ? {} : { retryAfterMs: error.retryAfterMs }),
  });
}
