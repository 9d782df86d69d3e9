import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type AgentMessage,
  agentMessageFromJson,
  agentMessageToJson,
  assertLimits,
  type ControllerMessage,
  commandTypes,
  controllerMessageFromJson,
  controllerMessageToJson,
  type JsonObject,
  toJsonObject,
  WireError,
} from "./index.ts";
import {
  decodeAgentMessage,
  decodeControllerMessage,
  encodeAgentMessage,
  encodeControllerMessage,
} from "./proto.ts";

/**
 * Every message survives protobuf and JSON unchanged. Times are whole seconds where the wire has only seconds;
 * optional texts are not empty, because proto3 cannot tell an empty text from an absent one.
 */
const nowMs = 1_800_000_000_000;
const text = fc.string({ minLength: 1, maxLength: 20 });
const ms = fc.integer({ min: 1_000, max: 4_000_000_000_000 });
const wholeSecondMs = fc.integer({ min: 1, max: 4_000_000_000 }).map((s) => s * 1000);
const count = fc.integer({ min: 0, max: 2 ** 50 });
const gauge = fc.double({ min: 0, max: 1e9, noNaN: true }).map((n) => n + 0);

const json: fc.Arbitrary<JsonObject> = fc
  .dictionary(
    text.filter(
      (key) =>
        ![
          "kind",
          "type",
          "timestamp",
          "vm_id",
          "pool_id",
          "org_id",
          "event_id",
          "seq",
          "incarnation",
        ].includes(key),
    ),
    fc.jsonValue({ maxDepth: 3 }),
    { maxKeys: 6 },
  )
  .map((value) => toJsonObject(JSON.parse(JSON.stringify(value))));

const optional = <T>(
  required: Record<string, fc.Arbitrary<unknown>>,
  more: Record<string, fc.Arbitrary<unknown>>,
) => fc.record({ ...required, ...more }, { requiredKeys: Object.keys(required) }) as fc.Arbitrary<T>;

const job = optional(
  { jobId: text, runId: text },
  { repository: text, branch: text, commit: text, status: text, startedAtMs: wholeSecondMs },
);
const agentMessage: fc.Arbitrary<AgentMessage> = fc.oneof(
  optional<AgentMessage & { kind: "connect" }>(
    {
      kind: fc.constant("connect"),
      connect: optional(
        { vmId: text, poolId: text, version: text, protocolVersion: fc.nat(9) },
        { orgId: text, incarnation: text, migletState: text },
      ),
    },
    {},
  ),
  optional<AgentMessage & { kind: "event" }>(
    {
      kind: fc.constant("event"),
      event: optional(
        { type: text, vmId: text, poolId: text, occurredAtMs: ms, data: json },
        { orgId: text, eventId: text, seq: fc.integer({ min: 1, max: 2 ** 50 }), incarnation: text },
      ),
    },
    {},
  ),
  optional<AgentMessage & { kind: "heartbeat" }>(
    {
      kind: fc.constant("heartbeat"),
      heartbeat: optional(
        { vmId: text, poolId: text, sentAtMs: ms },
        {
          orgId: text,
          incarnation: text,
          migletState: text,
          health: optional(
            {
              cpuUsagePercent: gauge,
              cpuLoad: gauge,
              memoryUsedBytes: count,
              memoryTotalBytes: count,
              diskUsedBytes: count,
              diskTotalBytes: count,
            },
            { networkReceivedBytes: count, networkSentBytes: count },
          ),
          runner: optional(
            {
              state: fc.constantFrom("idle", "running", "offline"),
              configured: fc.boolean(),
              labels: fc.array(text),
            },
            { name: text },
          ),
          currentJob: job,
        },
      ),
    },
    {},
  ),
  optional<AgentMessage & { kind: "ack" }>(
    {
      kind: fc.constant("ack"),
      answer: optional(
        { commandId: text, success: fc.boolean() },
        { stage: fc.constantFrom("received", "result"), message: text, result: json },
      ),
    },
    {},
  ),
);
const diagnosticsOrder: fc.Arbitrary<JsonObject> = optional<{ reason?: string; max_bytes?: number }>(
  {},
  { reason: text, max_bytes: fc.integer({ min: 16 * 1024, max: 1024 * 1024 }) },
) as fc.Arbitrary<JsonObject>;
const controllerMessage: fc.Arbitrary<ControllerMessage> = fc.oneof(
  fc.record({
    kind: fc.constant("command" as const),
    command: optional<(ControllerMessage & { kind: "command" })["command"]>(
      {
        id: text,
        type: fc.oneof(text, fc.constantFrom(...commandTypes)),
        parameters: fc.oneof(json, diagnosticsOrder),
        createdAtMs: ms,
        attempt: fc.integer({ min: 1, max: 99 }),
      },
      { expiresAtMs: ms },
    ),
  }),
  fc.record({
    kind: fc.constant("event_ack" as const),
    ack: fc.record({
      incarnation: text,
      upToSeq: count,
      rejected: fc.array(fc.record({ seq: count, code: text, message: text, permanent: fc.boolean() }), {
        maxLength: 3,
      }),
    }),
  }),
  fc.record({
    kind: fc.constant("connect_ack" as const),
    reply: fc.record({
      accepted: fc.boolean(),
      message: text,
      serverVersion: text,
      epoch: count,
      protocolVersion: fc.nat(9),
      heartbeatIntervalMs: count,
      ackedSeq: count,
      serverTimeMs: ms,
    }),
  }),
  fc.record({
    kind: fc.constant("heartbeat_ack" as const),
    reply: fc.record({ nextIntervalMs: count, serverTimeMs: ms }),
  }),
  fc.record({
    kind: fc.constant("go_away" as const),
    goAway: fc.record({ reason: text, reconnectAfterMs: count, deadlineMs: count }),
  }),
  fc.record({
    kind: fc.constant("error" as const),
    error: fc.record({ code: text, message: text, details: fc.constant({ a: "b" }), atMs: wholeSecondMs }),
  }),
);

const viaText = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

describe("messages survive the wire", () => {
  it("agent → protobuf → agent", () => {
    fc.assert(
      fc.property(agentMessage, (message) => {
        expect(decodeAgentMessage(encodeAgentMessage(message), nowMs)).toEqual(message);
      }),
    );
  });
  it("agent → JSON → agent", () => {
    fc.assert(
      fc.property(agentMessage, (message) => {
        const about = { vmId: "other", nowMs };
        expect(agentMessageFromJson(viaText(agentMessageToJson(message)), about)).toEqual(message);
      }),
    );
  });
  it("controller → protobuf → controller", () => {
    fc.assert(
      fc.property(controllerMessage, (message) => {
        expect(decodeControllerMessage(encodeControllerMessage(message), nowMs)).toEqual(message);
      }),
    );
  });
  it("controller → JSON → controller", () => {
    fc.assert(
      fc.property(controllerMessage, (message) => {
        expect(controllerMessageFromJson(viaText(controllerMessageToJson(message)), nowMs)).toEqual(message);
      }),
    );
  });
});

describe("what is not a message", () => {
  it("random bytes give a message, nothing, or a WireError: never another error", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        for (const read of [decodeAgentMessage, decodeControllerMessage]) {
          try {
            read(bytes, nowMs);
          } catch (error) {
            expect(error).toBeInstanceOf(WireError);
          }
        }
      }),
      { numRuns: 2_000 },
    );
  });
  it("any JSON gives a message or a WireError", () => {
    const kinds = fc.constantFrom("connect", "event", "heartbeat", "ack", "error", undefined, 7);
    fc.assert(
      fc.property(fc.dictionary(text, fc.jsonValue()), kinds, (body, kind) => {
        try {
          agentMessageFromJson(viaText({ ...body, kind }), { vmId: "vm", nowMs });
        } catch (error) {
          expect(error).toBeInstanceOf(WireError);
        }
      }),
    );
  });
  it("a deep object is refused by name, not by a stack overflow", () => {
    const deep = JSON.parse(`{"type":"x","a":${"[".repeat(50_000)}${"]".repeat(50_000)}}`);
    expect(() => agentMessageFromJson({ ...deep, kind: "event" }, { vmId: "vm", nowMs })).toThrow(WireError);
  });
});

it("the limits agree with each other", () => assertLimits());
