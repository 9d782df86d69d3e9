import { Type } from "typebox";
import { KIND_PATTERN } from "../ids.ts";
import { Anything, AnythingOrNull, Id, TextOrNull, Time, TimeOrNull } from "./shared.ts";

/** What operators send and get (DESIGN §8; seed 000 "Data Models"). */
export const OrderBody = Type.Object({
  type: Type.String({ pattern: KIND_PATTERN }),
  parameters: Type.Optional(Anything),
  expires_in: Type.Optional(Type.String({ description: 'drop it when nobody took it by then, as in "1h"' })),
});

/** `status` repeats the state and `command` the type: seed 000 names them so. */
export const CommandView = Type.Object({
  id: Type.String(),
  vm_id: Type.String(),
  seq: Type.Integer(),
  type: Type.String(),
  command: Type.String(),
  parameters: Anything,
  state: Type.String(),
  status: Type.String(),
  attempt: Type.Integer(),
  created_by: Type.String(),
  created_at: Time,
  expires_at: TimeOrNull,
  sent_at: TimeOrNull,
  acknowledged_at: TimeOrNull,
  finished_at: TimeOrNull,
  message: TextOrNull,
  result: AnythingOrNull,
});

export const VmView = Type.Object({
  vm_id: Type.String(),
  pool_id: Type.String(),
  org_id: Type.String(),
  state: Type.String(),
  reachability: Type.String(),
  runner_state: Type.String(),
  miglet_state: TextOrNull,
  current_job: AnythingOrNull,
  health: AnythingOrNull,
  last_heartbeat: TimeOrNull,
  last_seen: Time,
  created_at: Time,
  updated_at: Time,
  incarnation: Type.String(),
  life: Type.Integer(),
  runner_name: TextOrNull,
  agent_version: TextOrNull,
  protocol_version: Type.Integer(),
  channel: TextOrNull,
  epoch: Type.Integer(),
  acked_seq: Type.Integer(),
  drained: AnythingOrNull,
  problem: AnythingOrNull,
});

export const VmsQuery = Type.Object({
  pool_id: Type.Optional(Id),
  org_id: Type.Optional(Id),
  state: Type.Optional(Type.String({ pattern: KIND_PATTERN })),
  reachability: Type.Optional(Type.String({ pattern: KIND_PATTERN })),
  limit: Type.Optional(Type.String({ pattern: "^[1-9]\\d{0,3}$", description: "1 to 1000, default 100" })),
  cursor: Type.Optional(Type.String({ pattern: "^[A-Za-z0-9_-]{1,512}$" })),
});

export const VmsAnswer = Type.Object({ vms: Type.Array(VmView), next_cursor: TextOrNull });
