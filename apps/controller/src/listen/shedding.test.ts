import fc from "fast-check";
import { expect, test } from "vitest";
import {
  atEase,
  calmSamplesMin,
  isShed,
  judgeStrain,
  type Level,
  type Load,
  retryAfterMsOf,
  type Shedding,
  type Strain,
} from "./shedding.ts";

const anyMs = fc.oneof(fc.constant(0), fc.double({ min: 0, max: 30_000, noNaN: true }));
const anyStrain: fc.Arbitrary<Strain> = fc.record({
  loopDelayMs: anyMs.map((ms) => ms / 20),
  queueAgeMs: anyMs,
});
const anyShedding: fc.Arbitrary<Shedding> = fc.record({
  level: fc.constantFrom<Level>(0, 1, 2, 3),
  calm: fc.nat(calmSamplesMin - 1),
});
const after = (strains: readonly Strain[], from = atEase): Shedding => strains.reduce(judgeStrain, from);
const times = (n: number, strain: Strain): Strain[] => Array.from({ length: n }, () => strain);
const refused = (level: Level): Load[] =>
  (["list", "bulk", "join", "vital"] as const).filter((load) => isShed(load, level));

test("lists go first, then bulk, joins last, and what is vital never", () => {
  expect(([0, 1, 2, 3] as const).map(refused)).toEqual([
    [],
    ["list"],
    ["list", "bulk"],
    ["list", "bulk", "join"],
  ]);
});

test.each<[Strain, Level]>([
  [{ loopDelayMs: 100, queueAgeMs: 1_000 }, 0],
  [{ loopDelayMs: 101, queueAgeMs: 0 }, 1],
  [{ loopDelayMs: 0, queueAgeMs: 1_001 }, 1],
  [{ loopDelayMs: 251, queueAgeMs: 1_500 }, 2],
  [{ loopDelayMs: 0, queueAgeMs: 2_001 }, 2],
  [{ loopDelayMs: 0, queueAgeMs: 10_001 }, 3],
  [{ loopDelayMs: 1_001, queueAgeMs: 0 }, 3],
])("%j is level %i at once", (strain, level) => {
  expect(judgeStrain(atEase, strain).level).toBe(level);
});

test("more strain is never answered with less", () => {
  fc.assert(
    fc.property(anyShedding, anyStrain, anyStrain, (from, a, b) => {
      const more = {
        loopDelayMs: Math.max(a.loopDelayMs, b.loopDelayMs),
        queueAgeMs: Math.max(a.queueAgeMs, b.queueAgeMs),
      };
      return judgeStrain(from, more).level >= judgeStrain(from, a).level;
    }),
  );
});

test("it falls by one level, and only after so many calm samples in a row", () => {
  fc.assert(
    fc.property(fc.array(anyStrain, { maxLength: 120 }), (strains) => {
      let state = atEase;
      let changedAt = Number.NEGATIVE_INFINITY;
      for (const [i, strain] of strains.entries()) {
        const next = judgeStrain(state, strain);
        if (next.level < state.level) {
          if (next.level !== state.level - 1 || i - changedAt < calmSamplesMin) return false;
        }
        if (next.level !== state.level) changedAt = i;
        state = next;
      }
      return true;
    }),
  );
});

test("strain that goes up and down around a bound does not make it flap", () => {
  fc.assert(
    fc.property(fc.array(fc.double({ min: 501, max: 1_999, noNaN: true }), { minLength: 1 }), (ages) => {
      const strains = ages.map((queueAgeMs) => ({ loopDelayMs: 0, queueAgeMs }));
      const from = after([{ loopDelayMs: 0, queueAgeMs: 1_001 }]);
      return after(strains, from).level === 1;
    }),
  );
});

test("when it is over, it is over in a bounded time", () => {
  fc.assert(
    fc.property(anyShedding, (from) => {
      const calm = times(3 * calmSamplesMin, { loopDelayMs: 50, queueAgeMs: 500 });
      return after(calm, from).level === 0;
    }),
  );
});

test("Retry-After is in whole seconds, from 1 to 30, and never less for more", () => {
  fc.assert(
    fc.property(anyStrain, anyMs, (strain, moreMs) => {
      const ms = retryAfterMsOf(strain);
      const later = retryAfterMsOf({ ...strain, queueAgeMs: strain.queueAgeMs + moreMs });
      return ms % 1_000 === 0 && ms >= 1_000 && ms <= 30_000 && later >= ms;
    }),
  );
  expect(retryAfterMsOf({ loopDelayMs: 0, queueAgeMs: 2_001 })).toBe(3_000);
  expect(retryAfterMsOf({ loopDelayMs: 250, queueAgeMs: 0 })).toBe(3_000);
});
