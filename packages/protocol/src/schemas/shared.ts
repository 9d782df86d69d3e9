import { Type } from "typebox";
import { ID_PATTERN } from "../ids.ts";

/** An id in a path: it must be one. */
export const Id = Type.String({ pattern: ID_PATTERN, description: "letters, digits, '.', '_', '-'" });

/** An id in a body. Existing agents send "" for what they do not know (reference/go-agent-wire.md §2). */
export const IdOrEmpty = Type.String({ pattern: `^$|${ID_PATTERN}` });

export const Time = Type.String({ description: "RFC 3339" });

/** An object whose keys are not ours. */
export const Anything = Type.Record(Type.String(), Type.Unknown());

export const TextOrNull = Type.Union([Type.String(), Type.Null()]);
export const TimeOrNull = Type.Union([Time, Type.Null()]);
export const AnythingOrNull = Type.Union([Anything, Type.Null()]);

export const VmPath = Type.Object({ vm_id: Id });
export const CommandPath = Type.Object({ vm_id: Id, command_id: Id });

/** The one shape of an error (DESIGN §8). */
export const ErrorAnswer = Type.Object({
  error: Type.Object({
    code: Type.String(),
    message: Type.String(),
    category: Type.String(),
    request_id: Type.String(),
    retry_after_ms: Type.Optional(Type.Integer()),
  }),
});

const Check = Type.Object({ name: Type.String(), state: Type.String() });
export const HealthAnswer = Type.Object({
  status: Type.Union([Type.Literal("ok"), Type.Literal("degraded"), Type.Literal("unavailable")]),
  version: Type.Optional(Type.String()),
  checks: Type.Optional(Type.Array(Check)),
});
export const ReadyQuery = Type.Object({ verbose: Type.Optional(Type.String()) });
