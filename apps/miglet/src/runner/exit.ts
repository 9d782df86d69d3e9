export type ExitMeaning =
  | "done" // the job ran, or the service took it back; the registration is used up
  | "removed" // the registration was deleted at GitHub while no job ran
  | "stopped" // we asked it to end
  | "relaunch" // start it again: retryable error or self-update; `supervise.ts` does it and never reports it
  | "crashed"
  | "version_deprecated"
  | "session_conflict"
  | "terminated_error"; // not configured, refused, bad JIT config

export interface RunnerExit {
  meaning: ExitMeaning;
  exitCode?: number;
  signal?: string;
  ranJob: boolean;
  /** For people, with the runner's own last words. */
  message: string;
}

export interface ExitFacts {
  /** Undefined when the process was not our child: found again after a restart of the agent. */
  exitCode: number | undefined;
  signal: string | undefined;
  ranJob: boolean;
  hasListened: boolean;
  /** `.runner` is still there: an ephemeral runner that ended well has removed it. */
  isConfigured: boolean;
  expected: "removed" | "stopped" | undefined;
  lastLines: readonly string[];
}

const deprecatedLine = /Runner version v\S+ is deprecated and cannot receive messages/;
const deletedLine = /registration has been deleted from the server|runner no longer exists on the server/;

/** What the end of a Listener means (exit codes: runner-contract §3.1; messages: §4.3). */
export function judgeExit(facts: ExitFacts): RunnerExit {
  const { exitCode, signal, ranJob, lastLines } = facts;
  const said = lastLines
    .filter((line) => line.trim() !== "")
    .slice(-3)
    .join(" / ")
    .slice(0, 600);
  const how =
    signal !== undefined
      ? `by ${signal}`
      : exitCode === undefined
        ? "while nobody watched"
        : `with code ${exitCode}`;
  return {
    meaning: meaningOf(facts),
    ranJob,
    message: `The runner ended ${how}${said === "" ? "" : `: ${said}`}`,
    ...(exitCode === undefined ? {} : { exitCode }),
    ...(signal === undefined ? {} : { signal }),
  };
}

function meaningOf(facts: ExitFacts): ExitMeaning {
  const { exitCode, ranJob, expected, lastLines } = facts;
  const isDeleted = lastLines.some((line) => deletedLine.test(line));
  if (expected === "stopped") return ranJob && exitCode === 0 ? "done" : "stopped";
  if (expected === "removed") return ranJob ? "done" : "removed";
  switch (exitCode) {
    case 0:
      if (isDeleted && !ranJob) return "removed";
      // Ended by somebody's SIGINT: the files of its registration are still there.
      return facts.isConfigured && !ranJob ? "stopped" : "done";
    case 1:
      if (lastLines.some((line) => deprecatedLine.test(line))) return "version_deprecated";
      return isDeleted && ranJob ? "done" : "terminated_error";
    case 2:
      // After its one job an ephemeral runner has no registration to be started with (runner-contract §4.8).
      return ranJob ? "done" : "relaunch";
    case 3:
    case 4:
      return "relaunch";
    case 5:
      return "session_conflict";
    case 7:
      return "version_deprecated";
    case undefined:
      // Not our child: its files are all that tells. It removes them only when it ended well.
      if (facts.signal !== undefined) return "crashed";
      return facts.isConfigured ? "crashed" : isDeleted && !ranJob ? "removed" : "done";
    default:
      return exitCode >= 100 && exitCode <= 105 ? "done" : "crashed";
  }
}
