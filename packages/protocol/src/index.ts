export * from "./diagnostics.ts";
export * from "./event-data.ts";
export { ID_PATTERN, isId, isKind, KIND_PATTERN } from "./ids.ts";
export * from "./json.ts";
export * from "./json-heartbeat.ts";
export {
  agentMessageFromJson,
  agentMessageToJson,
  connectFromJson,
  connectToJson,
  controllerMessageFromJson,
  controllerMessageToJson,
} from "./json-messages.ts";
export { assertLimits, limits } from "./limits.ts";
export * from "./messages.ts";
export {
  NATS_PREFIX_PATTERN,
  type NatsNames,
  type NatsPeer,
  natsLinkHeader,
  natsNames,
  natsPeerOf,
  natsToken,
  natsWords,
} from "./nats.ts";
export {
  type About,
  asObject,
  maybe,
  readBoolean,
  readNumber,
  readText,
  readTexts,
  readTimeMs,
  toJsonObject,
  type Unknown,
  WireError,
} from "./read-json.ts";
export { PRODUCT_VERSION, PROTOCOL_VERSION } from "./version.ts";
