/**
 * Every limit that both sides must agree on, in one place. `assertLimits` states how they relate; it runs at the
 * start of both programs, so a careless edit cannot ship.
 */
export const limits = {
  /** One HTTP body or one gRPC message. */
  messageBytesMax: 1024 * 1024,
  /** The data of one event, as JSON. A batch of full events must fit in a message. */
  eventDataBytesMax: 64 * 1024,
  /** The parameters of one command, as JSON. In gRPC a small number takes six times as much, and strings are there twice. */
  commandParametersBytesMax: 64 * 1024,
  eventsPerBatchMax: 500,
  labelsMax: 100,
  labelLengthMax: 256,
  textLengthMax: 4096,
  /** How long GET …/commands may be held. Below the 30 s at which common proxies cut (seed 003, option 3). */
  commandWaitMsMax: 25_000,
  /** An agent that does not hear back within this takes the command as not received by anybody. */
  commandAckMs: 10_000,
  commandAttemptsMax: 8,
  /** Ids that an agent remembers, so that a command acts once. */
  commandJournalMax: 1_000,
  commandsPendingPerVmMax: 100,
  /** A bundle of diagnostics, compressed: one HTTP body. */
  diagnosticsBytesMax: 1024 * 1024,
  /** Less would hold little more than its own manifest. */
  diagnosticsBytesMin: 16 * 1024,
  /** How long an agent goes on trying to bring one; the controller waits for the result a little longer. */
  diagnosticsWithinMs: 10 * 60_000,
  outboxEventsMax: 20_000,
  outboxBytesMax: 64 * 1024 * 1024,
} as const;

export function assertLimits(): void {
  const problems: string[] = [];
  const must = (holds: boolean, relation: string): void => {
    if (!holds) problems.push(relation);
  };
  must(limits.eventDataBytesMax * 4 <= limits.messageBytesMax, "four full events fit in one message");
  must(
    limits.commandParametersBytesMax * 8 <= limits.messageBytesMax,
    "a command fits in one message of every channel",
  );
  must(limits.outboxEventsMax >= limits.eventsPerBatchMax, "the outbox holds at least one batch");
  must(
    limits.commandJournalMax >= limits.commandsPendingPerVmMax * 2,
    "the journal outlives what is pending",
  );
  must(limits.diagnosticsBytesMax <= limits.messageBytesMax, "a bundle of diagnostics fits in one message");
  must(limits.commandWaitMsMax < 30_000, "a held request ends before proxies cut it");
  if (problems.length > 0) throw new Error(`limits contradict each other: ${problems.join("; ")}`);
}
