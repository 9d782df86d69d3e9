/** TypeBox schemas of every HTTP body and answer: validation, static types and OpenAPI from one definition. */
export type { Static, TSchema } from "typebox";
export {
  ApiKeyBody,
  ApiKeyMade,
  ApiKeyPath,
  ApiKeysAnswer,
  AuditAnswer,
  AuditQuery,
  AuditVerifyAnswer,
  AuditVerifyQuery,
  JoinAnswer,
  JoinBody,
  JoinTokenBody,
  JoinTokenMade,
  JoinTokenPath,
  JoinTokensAnswer,
  NonceAnswer,
  RenewBody,
} from "./access.ts";
export {
  AckAnswer,
  AckBody,
  CommandsAnswer,
  EventAnswer,
  EventBody,
  EventsBody,
  GrantAnswer,
  GrantBody,
  HeartbeatAnswer,
  HeartbeatBody,
  NatsAnswer,
  NatsBody,
  PollQuery,
  ReleaseAnswer,
  StreamQuery,
} from "./agent.ts";
export { DiagnosticsList, DiagnosticsStored, GzipContent } from "./diagnostics.ts";
export { FeedItem, FeedQuery } from "./feed.ts";
export {
  FleetBody,
  FleetList,
  FleetPath,
  FleetQuery,
  FleetTargets,
  FleetTargetsQuery,
  FleetView,
} from "./fleet.ts";
export {
  CommandIdPath,
  CommandList,
  CommandsQuery,
  EventsAnswer,
  EventsQuery,
  HeartbeatsAnswer,
  HeartbeatsQuery,
} from "./lists.ts";
export { CommandView, OrderBody, VmsAnswer, VmsQuery, VmView } from "./operator.ts";
export { CommandPath, ErrorAnswer, HealthAnswer, Id, ReadyQuery, VmPath } from "./shared.ts";
