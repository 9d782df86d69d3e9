import fc from "fast-check";
import { expect, test } from "vitest";
import { readListenerLine } from "./listener-lines.ts";
import { beginStages, judgeNews, type RunnerNews } from "./news.ts";

const timing = { connectMs: 1, listenMs: 2, conflictMs: 3, updatingMs: 4, seriesMs: 100 };
const stamp = "2026-08-17 14:15:44Z";
const connected = "√ Connected to GitHub";
const conflict = "A session for this runner already exists.";
const error = `${stamp}: Runner connect error: Name or service not known. Retrying until reconnected.`;
const listening = `${stamp}: Listening for Jobs`;

function told(lines: readonly (readonly [string, number])[], hasJob = false): RunnerNews[] {
  let { state, news } = beginStages(timing);
  const all = [...news];
  for (const [text, nowMs] of lines) {
    ({ state, news } = judgeNews(state, text, { nowMs, hasJob }, timing));
    all.push(...news);
  }
  return all;
}
const brief = (news: readonly RunnerNews[]): string[] =>
  news.map((one) => (one.kind === "stage" ? one.stage : one.kind === "trouble" ? `!${one.what}` : one.kind));

test("each stage says within what the next one must come", () => {
  expect(
    told([
      [connected, 1],
      [listening, 2],
    ]),
  ).toEqual([
    { kind: "stage", stage: "started", withinMs: 1 },
    { kind: "stage", stage: "connected", withinMs: 2 },
    { kind: "stage", stage: "listening" },
  ]);
});

test("a conflict is one stage and one trouble, however often both lines come", () => {
  const series = Array.from({ length: 8 }, (_, n) => [
    [connected, n * 30] as const,
    [conflict, n * 30 + 1] as const,
  ]).flat();
  expect(brief(told(series))).toEqual(["started", "connected", "session_conflict", "!session_conflict"]);
  expect(brief(told([...series, [listening, 300]]))).toContain("listening");
});

test("a series ends when the Listener says that it is well, or when nothing has come for long", () => {
  expect(
    brief(
      told([
        [error, 0],
        [error, 50],
        [error, 140],
      ]),
    ),
  ).toEqual(["started", "!connect_error"]);
  expect(
    brief(
      told([
        [error, 0],
        [error, 101],
      ]),
    ).slice(1),
  ).toEqual(["!connect_error", "!connect_error"]);
  for (const well of [listening, `${stamp}: Runner reconnected.`])
    expect(
      brief(
        told([
          [error, 0],
          [well, 1],
          [error, 2],
        ]),
      ).filter((one) => one.startsWith("!")),
    ).toHaveLength(2);
});

test("an update takes its own time; the start after it begins anew", () => {
  const update = "Runner update in progress, do not shutdown runner.";
  expect(
    told([
      [connected, 1],
      [listening, 2],
      [update, 3],
    ]).slice(-2),
  ).toEqual([
    { kind: "stage", stage: "updating", withinMs: 4 },
    { kind: "trouble", what: "update_started", message: update },
  ]);
});

test("with a job nobody asks for a session: its name says so", () => {
  expect(told([[conflict, 1]], true)).toHaveLength(1);
});

test("whatever is printed, stages change and troubles are cut and bounded", () => {
  const line = fc.oneof(fc.constantFrom(connected, conflict, error, listening), fc.string());
  fc.assert(
    fc.property(fc.array(fc.tuple(line, fc.nat(60))), fc.boolean(), (steps, hasJob) => {
      let nowMs = 0;
      const news = told(
        steps.map(([text, passedMs]) => {
          nowMs += passedMs;
          return [text, nowMs] as const;
        }),
        hasJob,
      );
      const stages = news.flatMap((one) => (one.kind === "stage" ? [one.stage] : []));
      expect(stages.every((stage, index) => stage !== stages[index - 1])).toBe(true);
      for (const one of news) if (one.kind === "trouble") expect(one.message.length).toBeLessThanOrEqual(300);
    }),
  );
});

test("no text around a line makes it one", () => {
  fc.assert(
    fc.property(
      fc.string({ minLength: 1 }).filter((text) => !/^\s*$/.test(text)),
      (text) => {
        for (const line of [listening, error]) expect(readListenerLine(`${text}${line}`)).toBeUndefined();
        expect(readListenerLine(`${listening}${text}`)).toBeUndefined();
        expect(readListenerLine(`${conflict}${text}`)).toBeUndefined();
      },
    ),
  );
  expect(readListenerLine(`? ${connected.slice(2)}`)).toEqual({ line: "connected" });
});
