import { createBackoff } from "@mig/kit";
import fc from "fast-check";
import { expect, test } from "vitest";
import { boundHint } from "../src/link/bound-hint.ts";
import { usualTiming } from "../src/link/link-timing.ts";
import { pathSegment } from "../src/link/path-segment.ts";

/** The same dice each time (mulberry32), so that a distribution can be a test. */
function dice(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** When each of the agents that lost the controller at 0 gets through, if it is away until `awayMs`. */
function returns(
  agents: number,
  awayMs: number,
  random: () => number,
  hintMs?: number,
): { arrivalsMs: number[]; triesMs: number[] } {
  const arrivalsMs: number[] = [];
  const triesMs: number[] = [];
  for (let n = 0; n < agents; n += 1) {
    const backoff = createBackoff({
      firstMs: usualTiming.reconnectFirstMs,
      capMs: usualTiming.reconnectCapMs,
      random,
    });
    let atMs = backoff.nextMs(hintMs);
    for (; atMs < awayMs; atMs += backoff.nextMs()) triesMs.push(atMs);
    triesMs.push(atMs);
    arrivalsMs.push(atMs);
  }
  return { arrivalsMs, triesMs };
}

const peakPerSecond = (timesMs: readonly number[]): number => {
  const sorted = [...timesMs].sort((a, b) => a - b);
  let peak = 0;
  for (let from = 0, to = 0; to < sorted.length; to += 1) {
    while ((sorted[to] ?? 0) - (sorted[from] ?? 0) >= 1000) from += 1;
    peak = Math.max(peak, to - from + 1);
  }
  return peak;
};
const share = (timesMs: readonly number[], within: number): number =>
  timesMs.filter((ms) => ms <= within).length / timesMs.length;

test.each([
  // reliability-security R01 and §2.6: ≤ 400 new connections a second, 99 % back within 10 s, all within 20 s.
  { awayMs: 3_000, peakMax: 400, p99Ms: 10_000, allMs: 20_000 },
  // Measured there: a peak of 80 and 14.9 s; the window by then is the cap.
  { awayMs: 30_000, peakMax: 150, p99Ms: 15_500, allMs: 30_000 },
])(
  "1,000 agents that lose the controller for $awayMs ms come back spread",
  ({ awayMs, peakMax, p99Ms, allMs }) => {
    for (let seed = 1; seed <= 10; seed += 1) {
      const { arrivalsMs, triesMs } = returns(1000, awayMs, dice(seed));
      expect(peakPerSecond(arrivalsMs)).toBeLessThanOrEqual(peakMax);
      expect(share(arrivalsMs, awayMs + p99Ms)).toBeGreaterThanOrEqual(0.99);
      expect(Math.max(...arrivalsMs)).toBeLessThanOrEqual(awayMs + allMs);
      // Tries that meet nobody are spread too, after the first second, in which everybody tries once.
      expect(peakPerSecond(triesMs.filter((ms) => ms > 1000))).toBeLessThanOrEqual(600);
    }
  },
);

test("1,000 agents that were all told the same time come no earlier, and not in the same moment", () => {
  const { arrivalsMs } = returns(1000, 0, dice(7), 30_000);
  expect(Math.min(...arrivalsMs)).toBeGreaterThanOrEqual(30_000);
  expect(Math.max(...arrivalsMs)).toBeLessThanOrEqual(33_000);
  expect(peakPerSecond(arrivalsMs)).toBeLessThanOrEqual(400);
});

test("whatever a server hints, the wait is a real one and not for ever", () => {
  fc.assert(
    fc.property(fc.oneof(fc.double(), fc.integer(), fc.constant(undefined)), (hintMs) => {
      const bounded = boundHint(hintMs);
      const waitMs = createBackoff({ firstMs: 1000, capMs: 15_000 }).nextMs(bounded);
      expect(waitMs).toBeGreaterThanOrEqual(0);
      expect(waitMs).toBeLessThanOrEqual(3_960_000);
      if (hintMs !== undefined && hintMs > 0)
        expect(waitMs).toBeGreaterThanOrEqual(Math.min(hintMs, 3_600_000));
    }),
  );
});

test("an id is one segment of the path and comes out as it went in, or is refused", () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.string({ unit: "binary" }), fc.constantFrom("..", ".", "", "a/../b", "%2e%2e")),
      (id) => {
        let segment: string;
        try {
          segment = pathSegment(id);
        } catch (error) {
          expect(error).toMatchObject({ code: "invalid_request" });
          expect(/^\.{0,2}$/.test(id) || !id.isWellFormed()).toBe(true);
          return;
        }
        const { pathname, search, hash } = new URL(`/vms/${segment}/events`, "http://c");
        expect([search, hash]).toEqual(["", ""]);
        const parts = pathname.split("/");
        expect(parts).toHaveLength(4);
        expect(decodeURIComponent(parts[2] ?? "")).toBe(id);
      },
    ),
  );
});
