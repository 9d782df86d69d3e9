import { ack, delivery, duplicate, order, result } from "./scenarios/commands.ts";
import { redelivery, resume, slowConsumer, supersede } from "./scenarios/connections.ts";
import { hugeParameters } from "./scenarios/huge.ts";
import { reconnectInTheMiddle } from "./scenarios/reconnects.ts";
import { events, heartbeats } from "./scenarios/reports.ts";
import type { Scenario } from "./scenarios/scenario.ts";
import { expiry, offlineQueue } from "./scenarios/waiting.ts";

/** What every channel must do, whatever carries it. A new channel passes this list or it is not one. */
export const theList: Readonly<Record<string, readonly Scenario[]>> = {
  events,
  heartbeats,
  delivery,
  order,
  ack,
  result,
  redelivery,
  expiry,
  "offline queue": offlineQueue,
  resume,
  duplicate,
  supersede,
  "slow consumer": slowConsumer,
  "huge parameters": hugeParameters,
  "reconnect in the middle of each step": reconnectInTheMiddle,
};
