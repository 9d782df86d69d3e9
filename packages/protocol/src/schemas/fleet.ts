import { Type } from "typebox";
import { ID_PATTERN, KIND_PATTERN } from "../ids.ts";
import { Anything, Id, TextOrNull, Time, TimeOrNull } from "./shared.ts";

/** One order for many VMs: POST /api/v1/fleet/commands. */
const Kind = Type.String({ pattern: KIND_PATTERN });
const Selector = Type.Object(
  {
    pool_id: Type.Optional(Id),
    org_id: Type.Optional(Id),
    states: Type.Optional(Type.Array(Kind, { minItems: 1, maxItems: 20 })),
    agent_version: Type.Optional(Type.String({ minLength: 1, maxLength: 128 })),
    label: Type.Optional(Type.String({ minLength: 1, maxLength: 256 })),
    vm_ids: Type.Optional(
      Type.Array(Type.String({ pattern: ID_PATTERN }), { minItems: 1, maxItems: 10_000 }),
    ),
  },
  { additionalProperties: false, description: "the VMs that fit all of it; not empty" },
);

export const FleetBody = Type.Object({
  selector: Selector,
  type: Kind,
  parameters: Type.Optional(Anything),
  max_parallel: Type.Optional(
    Type.Integer({ minimum: 1, maximum: 1_000, description: "VMs under way at once, default 10" }),
  ),
  pause_after_failures: Type.Optional(
    Type.Integer({ minimum: 0, maximum: 100_000, description: "default 3; 0 is never" }),
  ),
  expires_in: Type.Optional(
    Type.String({ description: 'for each VM, from when it is its turn, as in "1h"' }),
  ),
});

const Count = Type.Integer();
export const FleetView = Type.Object({
  id: Type.String(),
  type: Type.String(),
  parameters: Anything,
  selector: Anything,
  max_parallel: Type.Integer(),
  pause_after_failures: Type.Integer(),
  state: Type.String({ description: "running, paused, done, cancelled" }),
  message: TextOrNull,
  progress: Type.Object({
    total: Count,
    pending: Count,
    sent: Count,
    succeeded: Count,
    failed: Count,
    skipped: Count,
  }),
  created_by: Type.String(),
  created_at: Time,
  finished_at: TimeOrNull,
  problems: Type.Optional(
    Type.Array(
      Type.Object({
        vm_id: Type.String(),
        state: Type.String(),
        command_id: TextOrNull,
        message: TextOrNull,
      }),
      { description: "the first 100 VMs that failed or were skipped; only when one order is asked for" },
    ),
  ),
});

export const FleetList = Type.Object({ fleet_commands: Type.Array(FleetView), next_cursor: TextOrNull });
export const FleetQuery = Type.Object({
  state: Type.Optional(Kind),
  limit: Type.Optional(Type.String({ pattern: "^[1-9]\\d{0,3}$", description: "1 to 1000, default 100" })),
  cursor: Type.Optional(Type.String({ pattern: "^[0-9a-f-]{36}$" })),
});
export const FleetTargets = Type.Object({
  targets: Type.Array(
    Type.Object({
      vm_id: Type.String(),
      org_id: Type.String(),
      state: Type.String({ description: "pending, sent, succeeded, failed, skipped" }),
      command_id: TextOrNull,
      message: TextOrNull,
    }),
  ),
  next_cursor: TextOrNull,
});
export const FleetTargetsQuery = Type.Object({
  state: Type.Optional(Kind),
  limit: Type.Optional(Type.String({ pattern: "^[1-9]\\d{0,3}$", description: "1 to 1000, default 100" })),
  cursor: Type.Optional(Type.String({ pattern: "^\\d{1,9}$" })),
});
export const FleetPath = Type.Object({ id: Id });
