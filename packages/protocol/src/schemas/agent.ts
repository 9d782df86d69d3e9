import { Type } from "typebox";
import { limits } from "../limits.ts";
import { Anything, AnythingOrNull, IdOrEmpty, Time } from "./shared.ts";

/**
 * What agents send and get over HTTP, with the seeds' exact keys (seed 000 "API Endpoints"). Inbound schemas are
 * lenient: unknown keys pass, and every key that an existing agent omits when it is zero is optional
 * (reference/go-agent-wire.md §2). What is there must be of its kind.
 */
const Envelope = {
  vm_id: Type.Optional(IdOrEmpty),
  pool_id: Type.Optional(IdOrEmpty),
  org_id: Type.Optional(IdOrEmpty),
  incarnation: Type.Optional(IdOrEmpty),
  timestamp: Type.Optional(Time),
};

export const EventBody = Type.Object({
  ...Envelope,
  type: Type.String(),
  event_id: Type.Optional(Type.String()),
  seq: Type.Optional(Type.Integer({ minimum: 1 })),
});

/** One event, or several of one VM in order. Which of the two is told by the key `events`. */
export const EventsBody = Type.Union([
  Type.Object({ events: Type.Array(EventBody, { minItems: 1, maxItems: limits.eventsPerBatchMax }) }),
  EventBody,
]);

export const EventAnswer = Type.Object({
  status: Type.Literal("acknowledged"),
  acknowledged: Type.Literal(true),
  vm_id: Type.String(),
  pool_id: Type.String(),
  org_id: Type.String(),
  message: Type.String(),
  timestamp: Time,
  incarnation: Type.Optional(Type.String()),
  up_to_seq: Type.Optional(Type.Integer()),
  rejected: Type.Optional(
    Type.Array(
      Type.Object({
        seq: Type.Integer(),
        code: Type.String(),
        message: Type.String(),
        permanent: Type.Boolean(),
      }),
    ),
  ),
});

const Job = Type.Object({
  job_id: Type.Optional(Type.String()),
  run_id: Type.Optional(Type.String()),
  repository: Type.Optional(Type.String()),
  branch: Type.Optional(Type.String()),
  commit: Type.Optional(Type.String()),
  status: Type.Optional(Type.String()),
  started_at: Type.Optional(Type.String()),
});

/** `runner_state` is a word; some test scripts of the past send an object (reference/go-agent-wire.md §2.2). */
export const HeartbeatBody = Type.Object({
  ...Envelope,
  type: Type.Optional(Type.String()),
  miglet_state: Type.Optional(Type.String()),
  vm_health: Type.Optional(Type.Record(Type.String(), Type.Number())),
  runner_state: Type.Optional(Type.Union([Type.String(), Anything])),
  runner: Type.Optional(Anything),
  current_job: Type.Optional(Type.Union([Job, Type.Null()])),
});

export const HeartbeatAnswer = Type.Object({
  status: Type.Literal("received"),
  vm_id: Type.String(),
  message: Type.String(),
  next_interval_ms: Type.Integer(),
  server_time_ms: Type.Integer(),
});

/** The sample controller took any body, or none. */
export const GrantBody = Type.Union([
  Type.Null(),
  Type.Object({
    org_id: Type.Optional(IdOrEmpty),
    pool_id: Type.Optional(IdOrEmpty),
    runner_group: Type.Optional(Type.String({ maxLength: limits.labelLengthMax })),
    labels: Type.Optional(
      Type.Union([
        Type.Null(),
        Type.Array(Type.String({ maxLength: limits.labelLengthMax }), { maxItems: limits.labelsMax }),
      ]),
    ),
  }),
]);

export const GrantAnswer = Type.Object({
  registration_token: Type.String({ description: "empty when the pool registers by JIT config" }),
  expires_at: Time,
  runner_url: Type.String(),
  runner_group: Type.String(),
  labels: Type.Array(Type.String()),
  jit_config: Type.Optional(Type.String()),
  runner_name: Type.Optional(Type.String()),
});

export const NatsBody = Type.Object({
  public_key: Type.String({
    pattern: "^U[A-Z2-7]{55}$",
    description: "of an nkey that the agent has made; its seed stays on the VM",
  }),
});

export const NatsAnswer = Type.Object({
  servers: Type.Array(Type.String()),
  prefix: Type.String({ description: "what all subjects begin with" }),
  identity_epoch: Type.Number({ description: "part of the VM's subjects" }),
  jwt: Type.Optional(
    Type.String({
      description: "for that key and this VM's subjects; absent: the server asks for no such thing",
    }),
  ),
  expires_in_ms: Type.Optional(Type.Number({ description: "the NATS server ends the connection then" })),
});

export const ReleaseAnswer = Type.Object({
  registration: Type.Union([Type.Literal("removed"), Type.Literal("busy"), Type.Literal("unknown")], {
    description: "busy: GitHub says that a job runs there; unknown: nobody can say",
  }),
});

export const PollQuery = Type.Object({
  wait: Type.Optional(Type.String({ description: 'how long to hold the request, as in "25s"' })),
  incarnation: Type.Optional(IdOrEmpty),
  miglet_state: Type.Optional(Type.String({ pattern: "^[a-z_]{0,64}$" })),
  protocol_version: Type.Optional(Type.String({ pattern: "^\\d{1,6}$" })),
});

/** What a stream says of its VM when it opens; as `connect` on the channels that have it. */
export const StreamQuery = Type.Object({
  pool_id: Type.Optional(IdOrEmpty),
  org_id: Type.Optional(IdOrEmpty),
  version: Type.Optional(Type.String({ maxLength: 128 })),
  incarnation: Type.Optional(IdOrEmpty),
  miglet_state: Type.Optional(Type.String({ pattern: "^[a-z_]{0,64}$" })),
  protocol_version: Type.Optional(Type.String({ pattern: "^\\d{1,6}$" })),
});

export const CommandsAnswer = Type.Object({
  commands: Type.Array(
    Type.Object({
      id: Type.String(),
      type: Type.String(),
      command: Type.String({ description: "the type again: seed 000 asks for both keys" }),
      parameters: Anything,
      created_at: Time,
      expires_at: Type.Optional(Time),
      attempt: Type.Integer(),
    }),
  ),
  vm_id: Type.String(),
});

export const AckBody = Type.Object({
  command_id: Type.Optional(IdOrEmpty),
  stage: Type.Optional(Type.Union([Type.Literal("received"), Type.Literal("result")])),
  success: Type.Optional(Type.Boolean()),
  status: Type.Optional(Type.String({ description: "the form of seed 003" })),
  message: Type.Optional(Type.String()),
  result: Type.Optional(AnythingOrNull),
});

export const AckAnswer = Type.Object({
  status: Type.Literal("acknowledged"),
  vm_id: Type.String(),
  command_id: Type.String(),
  command_state: Type.String(),
});
