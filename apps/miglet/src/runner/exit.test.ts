import { expect, test } from "vitest";
import { type ExitFacts, inferExitCode, judgeExit } from "./exit.ts";

const idle: ExitFacts = {
  exitCode: 0,
  signal: undefined,
  ranJob: false,
  hasListened: true,
  isConfigured: true,
  expected: undefined,
  lastLines: [],
};
const deleted = "The runner no longer exists on the server. Cleaning up local configuration.";
const deprecated = "An error occurred: Runner version v2.300.0 is deprecated and cannot receive messages.";

test.each<[string, Partial<ExitFacts>, string]>([
  ["its job is done", { ranJob: true, isConfigured: false }, "done"],
  ["the job was gone when it was acknowledged", { isConfigured: false }, "done"],
  ["its registration was deleted", { lastLines: [deleted], isConfigured: false }, "removed"],
  ["we expected the deletion", { expected: "removed", isConfigured: false }, "removed"],
  ["a job came before the deletion", { expected: "removed", ranJob: true }, "done"],
  ["we stopped it", { expected: "stopped" }, "stopped"],
  ["we killed it", { expected: "stopped", exitCode: undefined, signal: "SIGKILL" }, "stopped"],
  ["somebody interrupted it", {}, "stopped"],
  ["it is not configured", { exitCode: 1 }, "terminated_error"],
  ["its version is too old", { exitCode: 1, lastLines: [deprecated] }, "version_deprecated"],
  ["its version is too old, with the toggle", { exitCode: 7 }, "version_deprecated"],
  ["a retryable error", { exitCode: 2 }, "relaunch"],
  ["a retryable error after its only job", { exitCode: 2, ranJob: true }, "done"],
  ["an update", { exitCode: 3 }, "relaunch"],
  ["an update of an ephemeral runner", { exitCode: 4 }, "relaunch"],
  ["another Listener has the session", { exitCode: 5 }, "session_conflict"],
  ["a job result as code", { exitCode: 102, ranJob: true }, "done"],
  ["an abort", { exitCode: 134 }, "crashed"],
  ["a kill", { exitCode: undefined, signal: "SIGKILL", ranJob: true }, "crashed"],
  ["nobody watched, files removed", { exitCode: undefined, isConfigured: false, ranJob: true }, "done"],
  ["nobody watched, files there", { exitCode: undefined }, "crashed"],
])("when %s", (_name, facts, meaning) => {
  expect(judgeExit({ ...idle, ...facts }).meaning).toBe(meaning);
});

test.each([
  [["An error occurred: The HTTP request timed out after 00:01:40."], 2],
  [["An error occured: The service is not available.", ""], 2],
  [["An error occurred: Not configured. Run config.(sh/cmd) to configure the runner."], 1],
  [["An error occurred: Get next message failed with non-retryable error."], 1],
  [[deprecated], 1],
  [["Failed to create session. Access denied."], 1],
  [
    ["Stop retry on SessionConflictException after retried for 240 seconds.", "Failed to create session. x"],
    5,
  ],
  [["Runner update process finished."], 4],
  // An update that failed: the Listener went on.
  [["Runner update process finished.", "2026-08-17 14:15:44Z: Listening for Jobs"], undefined],
  [[], undefined],
])("the last words %j of a Listener that nobody watched tell code %s", (lines, code) => {
  expect(inferExitCode(lines)).toBe(code);
});
