import { Type } from "typebox";
import { FleetView } from "./fleet.ts";
import { Anything, Id, TextOrNull, Time } from "./shared.ts";

/** The live feed of operators, GET /api/v1/feed. */
export const FeedQuery = Type.Object({
  vm_id: Type.Optional(Id),
  pool_id: Type.Optional(Id),
  org_id: Type.Optional(Id),
  types: Type.Optional(
    Type.String({
      maxLength: 64,
      description: "of vm, command, event, fleet; default all: vm,command,event,fleet",
    }),
  ),
  after: Type.Optional(
    Type.String({
      maxLength: 128,
      description: "a cursor that a feed gave out; Last-Event-ID wins; without one, what comes from now on",
    }),
  ),
});

const about = { at: Time, vm_id: Type.String(), pool_id: Type.String(), org_id: Type.String() };
const states = { state: Type.String(), reachability: Type.String(), runner_state: Type.String() };

/** The `data` of one item; its `event` is the type, its `id` the cursor to go on from. */
export const FeedItem = Type.Union([
  Type.Object({
    type: Type.Literal("vm"),
    ...about,
    vm: Type.Object({
      ...states,
      miglet_state: TextOrNull,
      runner_name: TextOrNull,
      incarnation: Type.String(),
      life: Type.Integer(),
      is_drained: Type.Boolean(),
      before: Type.Union([Type.Object({ ...states, life: Type.Integer() }), Type.Null()]),
    }),
  }),
  Type.Object({
    type: Type.Literal("command"),
    ...about,
    command: Type.Object({
      id: Type.String(),
      type: Type.String(),
      state: Type.String(),
      attempt: Type.Integer(),
      created_by: Type.String(),
      message: TextOrNull,
    }),
  }),
  Type.Object({
    type: Type.Literal("event"),
    ...about,
    event: Type.Object({
      event_id: Type.String(),
      type: Type.String(),
      incarnation: Type.String(),
      seq: Type.Union([Type.Integer(), Type.Null()]),
      occurred_at: Time,
      payload: Anything,
      refused: TextOrNull,
    }),
  }),
  Type.Object({ type: Type.Literal("fleet"), at: Time, fleet: FleetView }),
]);
