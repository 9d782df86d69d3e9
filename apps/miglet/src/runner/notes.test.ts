import fc from "fast-check";
import { expect, test } from "vitest";
import { judge, noEvidence } from "./evidence.ts";
import { assignedAt, noteJob, type RunnerNotes, readNotes, writeNotes } from "./notes.ts";
import { readCounter } from "./perf-log.ts";
import { readScriptExit } from "./run-script.ts";
import { isOurs } from "./scope.ts";

test("notes are read as they were written", () => {
  const notes = fc.record<RunnerNotes>(
    {
      launcher: fc.constant("run.sh"),
      scope: fc.stringMatching(/^[0-9a-f]{12}$/).map((hex) => `/sys/fs/cgroup/miglet-runner-${hex}.scope`),
      relaunch: fc.record({ exitCode: fc.constantFrom(2, 3, 4), count: fc.nat(100) }),
      phase: fc.constantFrom("latched", "assigned", "started", "over"),
      jobName: fc.string({ minLength: 1 }),
      assignedAtUptimeS: fc.nat(),
      assignedAtMs: fc.nat(),
    },
    { requiredKeys: [] },
  );
  fc.assert(
    fc.property(notes, (value) => {
      expect(readNotes(JSON.parse(JSON.stringify(writeNotes(value))))).toEqual(value);
    }),
  );
});

test("whatever a file holds is notes, and no path in it leads to another cgroup", () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      expect(() => readNotes(value)).not.toThrow();
    }),
  );
  for (const scope of ["/", "/sys/fs/cgroup", "miglet-runner-1.scope", "/a/miglet-runner-1/../..", 7])
    expect(readNotes({ scope })).toEqual({});
  expect(isOurs("/sys/fs/cgroup/system.slice/ssh.service")).toBe(false);
});

test("how long ago a job began is told by the machine's own time, whatever the wall clock says", () => {
  const at = (monoMs: number, wallMs: number) => ({ monoMs, wallMs });
  const busy = judge(
    noEvidence(),
    { kind: "worker", present: true, at: at(1_000, 5_000_000) },
    { identityMs: 1, goneMs: 1, ghostMs: 1 },
  ).state;
  const notes = readNotes(writeNotes(noteJob(busy, at(61_000, 5_060_000))));
  // A new process: its monotonic clock begins anew, and the wall clock was set by three days.
  const now = at(10, 5_060_000 + 3 * 86_400_000);
  const ago = (isSameBoot: boolean) => now.monoMs - (assignedAt(notes, isSameBoot, now)?.monoMs ?? 0);
  expect(Math.abs(ago(true) - 60_000)).toBeLessThan(2_000);
  expect(ago(false)).toBe(60_000 + 3 * 86_400_000);
});

test("a counter is what stands before its time, bounded", () => {
  expect(readCounter("MessageReceived_RunnerJobRequest:2026-08-17T14:15:44.1234567Z")).toBe(
    "MessageReceived_RunnerJobRequest",
  );
  for (const line of ["", ":x", "no colon"]) expect(readCounter(line)).toBeUndefined();
  fc.assert(fc.property(fc.string(), (line) => (readCounter(line)?.length ?? 0) <= 200));
});

test.each([
  ["Runner listener exit with 0 return code, stop the service, no retry needed.", 0],
  ["Runner listener exit with terminated error, stop the service, no retry needed.", 1],
  ["Runner listener exit with retryable error, re-launch runner in 5 seconds.", 2],
  ["Runner listener exit because of updating, re-launch runner after successful update", 4],
  ["Runner listener exit with Session Conflict error, stop the service, no retry needed.", 5],
  ["Runner listener exit with deprecated version exit code: 7.", 7],
  ["Exiting with unknown error code: 137", 137],
  ["Must not run interactively with sudo", 1],
])("run.sh: %s", (line, code) => {
  const forged = "Exiting with unknown error code: 99";
  expect(readScriptExit([forged, line, "Exiting runner..."])).toBe(code);
  expect(readScriptExit([`x ${line}`, `${line}x`])).toBeUndefined();
});
