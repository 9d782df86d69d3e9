import { limits } from "@mig/protocol";

export interface LinkTiming {
  reconnectFirstMs: number;
  reconnectCapMs: number;
  /** After a refusal. */
  refusedFirstMs: number;
  refusedCapMs: number;
  /** A link that lived this long resets the backoff. */
  stableMs: number;
  /** While on a channel that is not the best: how long until better ones are tried again (doubles, at most ten times this). */
  retryUpMs: number;
  connectMs: number;
  /** In place of it while no channel is open and there is another one to try. */
  fallbackMs: number;
  /** For the answer to a heartbeat; a batch of events has three times as long. */
  answerMs: number;
  /** A stream of events on which not even a comment comes for so long is dead. */
  streamSilentMs: number;
  /** On NATS: nothing was said for so long, and the controller is asked whether it is there. */
  natsPingMs: number;
  pollWaitMs: number;
  pollPauseMs: number;
}

export const usualTiming: LinkTiming = {
  reconnectFirstMs: 1000,
  reconnectCapMs: 15_000,
  refusedFirstMs: 30_000,
  refusedCapMs: 600_000,
  stableMs: 60_000,
  retryUpMs: 60_000,
  connectMs: 10_000,
  fallbackMs: 4_000,
  answerMs: 10_000,
  streamSilentMs: 45_000,
  natsPingMs: 5_000,
  pollWaitMs: limits.commandWaitMsMax,
  pollPauseMs: 5000,
};
