import { Type } from "typebox";
import { KIND_PATTERN } from "../ids.ts";
import { CommandView } from "./operator.ts";
import { Anything, Id, TextOrNull, Time, TimeOrNull } from "./shared.ts";

/** The operator lists: newest first, walked by cursor. */
const Kind = Type.Optional(Type.String({ pattern: KIND_PATTERN }));
const Instant = Type.Optional(Type.String({ maxLength: 40, description: "RFC 3339" }));
const walked = {
  vm_id: Type.Optional(Id),
  pool_id: Type.Optional(Id),
  org_id: Type.Optional(Id),
  since: Instant,
  until: Instant,
  limit: Type.Optional(Type.String({ pattern: "^[1-9]\\d{0,3}$", description: "1 to 1000, default 100" })),
  cursor: Type.Optional(Type.String({ pattern: "^[A-Za-z0-9_-]{1,512}$" })),
};

export const EventsQuery = Type.Object({ ...walked, type: Kind });
export const HeartbeatsQuery = Type.Object(walked);
export const CommandsQuery = Type.Object({ ...walked, type: Kind, state: Kind });

const owner = { vm_id: Type.String(), pool_id: Type.String(), org_id: Type.String() };
const EventView = Type.Object({
  event_id: Type.String(),
  ...owner,
  incarnation: Type.String(),
  seq: Type.Union([Type.Integer(), Type.Null()]),
  type: Type.String(),
  occurred_at: TimeOrNull,
  received_at: TimeOrNull,
  payload: Anything,
  refused: TextOrNull,
});
const HeartbeatView = Type.Object({ ...owner, at: Time, body: Anything });

export const EventsAnswer = Type.Object({ events: Type.Array(EventView), next_cursor: TextOrNull });
export const HeartbeatsAnswer = Type.Object({
  heartbeats: Type.Array(HeartbeatView),
  next_cursor: TextOrNull,
});
export const CommandList = Type.Object({ commands: Type.Array(CommandView), next_cursor: TextOrNull });
export const CommandIdPath = Type.Object({ command_id: Id });
