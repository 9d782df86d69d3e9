import { readScriptExit } from "./run-script.ts";

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
  /** Processes that the job left running, ended with its runner. */
  leftBehind?: number;
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

/**
 * Of a Listener that nobody watched and that has kept its registration: what it said last (runner-contract §4.3, §4.4)
 * tells what its code was, as far as it makes a difference.
 */
export function inferExitCode(lastLines: readonly string[]): number | undefined {
  const said = lastLines.filter((line) => line.trim() !== "");
  if (said.some((line) => line.startsWith("Stop retry on SessionConflictException"))) return 5;
  const last = said.at(-1) ?? "";
  if (last === "Runner update process finished.") return 4;
  if (/^Failed to create (?:a )?session\./.test(last) || deprecatedLine.test(last)) return 1;
  if (!/^An error occur+ed: /.test(last)) return undefined;
  return /: (?:Not configured\.|Get next message failed with non-retryable error)/.test(last) ? 1 : 2;
}

/** Of a child of ours the system tells; of run.sh its last words do, as of whatever ended while nobody watched. */
export function exitCodeOf(
  end: { code?: number | undefined; signal?: string | undefined },
  launcher: "run.sh" | undefined,
  isStillConfigured: boolean,
  lastLines: readonly string[],
): number | undefined {
  if (launcher === "run.sh") return readScriptExit(lastLines);
  if (end.code !== undefined || end.signal !== undefined) return end.code;
  return isStillConfigured ? inferExitCode(lastLines) : undefined;
}

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
