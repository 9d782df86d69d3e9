import fc from "fast-check";
import { expect, it } from "vitest";
import { Buckets } from "./buckets.ts";

it("never lets more through than the burst and the pace, and always as soon as it said", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 1_000 }),
      fc.integer({ min: 1, max: 50 }),
      fc.array(fc.integer({ min: 0, max: 500 }), { minLength: 1, maxLength: 200 }),
      (perSecond, burst, gaps) => {
        const buckets = new Buckets({ perSecond, burst });
        let nowMs = 0;
        const taken: number[] = [];
        for (const gap of gaps) {
          nowMs += gap;
          const waitMs = buckets.take("a", nowMs);
          if (waitMs === 0) taken.push(nowMs);
          else expect(new Buckets({ perSecond, burst }).take("b", nowMs)).toBe(0);
        }
        for (const [i, fromMs] of taken.entries())
          for (const [n, toMs] of taken.slice(i).entries())
            expect(n + 1).toBeLessThanOrEqual(burst + ((toMs - fromMs) * perSecond) / 1000 + 1e-6);
      },
    ),
  );
});

it("who waits as long as told gets through", () => {
  const buckets = new Buckets({ perSecond: 10, burst: 3 });
  for (let n = 0; n < 3; n += 1) expect(buckets.take("a", 0)).toBe(0);
  const waitMs = buckets.take("a", 0);
  expect(waitMs).toBe(100);
  expect(buckets.take("a", waitMs - 1)).toBeGreaterThan(0);
  expect(buckets.take("a", waitMs)).toBe(0);
});

it("made-up names do not fill the memory", () => {
  const buckets = new Buckets({ perSecond: 1, burst: 5, keysMax: 100 });
  for (let n = 0; n < 10_000; n += 1) buckets.take(`name-${n}`, n / 1000);
  expect(buckets.size).toBeLessThanOrEqual(100);
});
