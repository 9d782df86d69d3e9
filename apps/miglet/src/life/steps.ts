import { type ErrorCode, errorCodes } from "@mig/lifecycle";
import { type JsonObject, maybe } from "@mig/protocol";
import type { Always, Effect, Outcome, Owed, Problem, Rules, State, Step } from "./words.ts";

/** The small pieces that every step is made of. */
export function stay(state: State, ...effects: Effect[]): Step {
  return { state, effects };
}

/** Another state; `step` adds that it is remembered and told. */
export function go(state: State, ...effects: Effect[]): Step {
  return { state, effects };
}

/** What every state carries over into the next one. */
export function carried({
  rules,
  failedRegistrations,
  linked,
  usedGrant,
  grantFault,
  collecting,
}: State): Always {
  return {
    rules,
    failedRegistrations,
    linked,
    ...maybe("usedGrant", usedGrant),
    ...maybe("grantFault", grantFault),
    ...maybe("collecting", collecting),
  };
}

/** Where grants may lie in metadata: look. What is there comes as `grant_read`, which sees to the next look. */
export function lookForGrant({ fromMetadataMs }: Rules): Effect[] {
  return fromMetadataMs === undefined ? [] : [{ do: "read_grant" }];
}

/** The bounds of a life and of idleness, from where it begins or goes on. */
export function watchTime({ at, rules: { idleMs, lifetimeLeftMs } }: State): Effect[] {
  const effects: Effect[] = [];
  if (lifetimeLeftMs !== undefined)
    effects.push({ do: "set_timer", timer: "lifetime", afterMs: lifetimeLeftMs });
  if (at === "idle" && idleMs > 0) effects.push({ do: "set_timer", timer: "idle", afterMs: idleMs });
  return effects;
}

export function errorData({ code, message }: Problem, isFatal: boolean): JsonObject {
  return { code, category: errorCodes[code satisfies ErrorCode], message, fatal: isFatal };
}

export function finish(commandId: string | undefined, outcome: Outcome): Effect[] {
  return commandId === undefined ? [] : [{ do: "finish", commandId, outcome }];
}

export type Was = "idle" | "busy" | "no_runner";

/** The results that were due when the runner is gone: the receipts of DESIGN §6.9. */
export function settle(owed: readonly Owed[], was: Was, proof: JsonObject): Effect[] {
  return owed.flatMap(({ id, type }) =>
    finish(id, { success: true, result: { [type === "drain" ? "drained" : "shutdown"]: true, was, proof } }),
  );
}
