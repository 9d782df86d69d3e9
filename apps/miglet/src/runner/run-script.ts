/**
 * run.sh ends with 0 for nearly everything (runner-contract §3.3). What its Listener ended with stands in one of its
 * fixed lines (§3.2), the last of which is its own: a job's name may have written the earlier ones.
 */
const helperLines: readonly (readonly [RegExp, number])[] = [
  [/^Runner listener exit with 0 return code, stop the service, no retry needed\.$/, 0],
  [/^Runner listener exit with terminated error, stop the service, no retry needed\.$/, 1],
  [/^Runner listener exit with retryable error, re-launch runner in 5 seconds\.$/, 2],
  [/^Runner listener exit because of updating, re-launch runner after successful update$/, 4],
  [/^Runner listener exit with Session Conflict error, stop the service, no retry needed\.$/, 5],
  [/^Runner listener exit with deprecated version exit code: 7\.$/, 7],
  [/^Must not run (?:interactively )?with sudo$/, 1],
];

/** The exit code of the Listener, from the script's last words. */
export function readScriptExit(lines: readonly string[]): number | undefined {
  for (const line of [...lines].reverse()) {
    const known = helperLines.find(([pattern]) => pattern.test(line));
    if (known !== undefined) return known[1];
    const unknown = /^Exiting with unknown error code: (\d{1,3})$/.exec(line);
    if (unknown !== null) return Number(unknown[1]);
  }
  return undefined;
}

/** The script starts its Listener again: without a limit, so somebody must count. */
export function isScriptRestart(line: string): boolean {
  return line === "Restarting runner...";
}
