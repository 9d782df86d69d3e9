import { MigError } from "@mig/lifecycle";
import { renderError } from "../error.ts";

/** The close code and the words that end a socket: 4000 and the status that HTTP would have answered. */
export interface Closing {
  code: number;
  reason: string;
}

/** RFC 6455 §5.5: a close frame has 125 bytes, two of them the code. */
const reasonBytesMax = 123;

export const goingAway: Closing = { code: 1001, reason: "the controller stops" };
export const finished: Closing = { code: 1000, reason: "" };
export const notText: Closing = { code: 1003, reason: "messages are JSON in text frames" };
export const tooFast: Closing = { code: 4429, reason: "too many messages a second" };
/** It would not read this either: its connection is cut. */
export const tooSlow: Closing = { code: 1006, reason: "slow_consumer" };

/** Of a failure of ours nothing is told. */
export function toClosing(error: MigError): Closing {
  const { status, body } = renderError(error, "");
  return { code: 4000 + status, reason: shorten(body.error.message) };
}

/** Why a session ends, as a code: the agent has read go_away before it, others have only this. */
export function closingOf(reason: string): Closing {
  if (reason === "shutting_down") return goingAway;
  if (reason === "slow_consumer") return tooSlow;
  if (reason === "superseded" || reason === "incarnation_lost")
    return toClosing(new MigError(reason, reason));
  return { ...finished, reason: shorten(reason) };
}

function shorten(text: string): string {
  const bytes = Buffer.from(text);
  if (bytes.length <= reasonBytesMax) return text;
  // The cut may go through a character; what is left of it is dropped.
  return bytes
    .subarray(0, reasonBytesMax)
    .toString("utf8")
    .replace(/\uFFFD+$/, "");
}
