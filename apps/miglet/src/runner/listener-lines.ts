import type { JobResult } from "@mig/protocol";

/**
 * What the Listener prints, anchored at both ends: whoever names a job writes part of it (runner-contract §4.2, §4.6).
 */
const time = String.raw`\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ`;
const listening = new RegExp(`^${time}: Listening for Jobs$`);
const running = new RegExp(`^${time}: Running job: (.*)$`);
const completed = new RegExp(
  `^${time}: Job (.*) completed with result: (Succeeded|SucceededWithIssues|Failed|Canceled|Skipped|Abandoned)$`,
);
const connectError = new RegExp(`^${time}: Runner connect error: (.*)\\. Retrying until reconnected\\.$`);
const reconnected = new RegExp(`^${time}: Runner reconnected\\.$`);

const resultOf: Readonly<Record<string, JobResult>> = {
  Succeeded: "succeeded",
  SucceededWithIssues: "succeeded",
  Failed: "failed",
  Canceled: "cancelled",
};

export type ListenerLine =
  | { line: "connected" }
  | { line: "listening" }
  | { line: "running"; jobName: string }
  | { line: "completed"; result: JobResult }
  | { line: "reconnected" }
  | { line: "connect_error"; message: string }
  | { line: "session_conflict" }
  | { line: "clock_skew" }
  | { line: "registration_deleted" }
  | { line: "update_started" };

/** Undefined for everything else. */
export function readListenerLine(text: string): ListenerLine | undefined {
  // The "√ " in front is in the bytes of whatever locale the runner has (§4.6).
  if (/(?:^|\s)Connected to GitHub$/.test(text) && text.length < 30) return { line: "connected" };
  if (listening.test(text)) return { line: "listening" };
  const started = running.exec(text);
  if (started !== null) return { line: "running", jobName: started[1] ?? "" };
  const ended = completed.exec(text);
  if (ended !== null) return { line: "completed", result: resultOf[ended[2] ?? ""] ?? "unknown" };
  if (reconnected.test(text)) return { line: "reconnected" };
  const error = connectError.exec(text);
  if (error !== null) return { line: "connect_error", message: error[1] ?? "" };
  if (text === "A session for this runner already exists.") return { line: "session_conflict" };
  if (text.startsWith("The local machine's clock may be out of sync with the server time"))
    return { line: "clock_skew" };
  if (
    text.startsWith("The runner no longer exists on the server.") ||
    text.startsWith("Failed to create a session. The runner registration has been deleted from the server")
  )
    return { line: "registration_deleted" };
  return text === "Runner update in progress, do not shutdown runner."
    ? { line: "update_started" }
    : undefined;
}
