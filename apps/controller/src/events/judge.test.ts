import type { VmEvent } from "@mig/protocol";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { judgeEvent } from "./judge.ts";

const event = (seq: number, fromSeq?: number): VmEvent => ({
  type: fromSeq === undefined ? "job_heartbeat" : "events_dropped",
  vmId: "vm",
  poolId: "p",
  occurredAtMs: 1,
  seq,
  incarnation: "b",
  data: fromSeq === undefined ? {} : { from_seq: fromSeq },
});

describe("E1 and E3: whatever order and however often events come, each is stored once and in order", () => {
  it("holds for any shuffle with doubles of a numbered stream with dropped ranges", () => {
    const stream = fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 20 }).map((steps) => {
      let seq = 0;
      return steps.map((step) => {
        const from = seq + 1;
        seq += step;
        return step === 1 ? event(seq) : event(seq, from);
      });
    });
    const arrivals = stream.chain((events) =>
      fc.record({
        events: fc.constant(events),
        order: fc.array(fc.nat(events.length - 1), { maxLength: 60 }),
      }),
    );
    fc.assert(
      fc.property(arrivals, ({ events, order }) => {
        let mark = 0;
        const stored: number[] = [];
        const take = (one: VmEvent): void => {
          const { verdict } = judgeEvent(one, mark);
          if (verdict !== "store") return;
          stored.push(one.seq ?? 0);
          mark = one.seq ?? 0;
        };
        for (const at of order) take(events[at] ?? event(1));
        // The agent sends on from the mark until all is acknowledged.
        for (const one of events) take(one);
        expect(stored).toEqual(events.map((one) => one.seq));
      }),
    );
  });
});

describe("what cannot be understood", () => {
  it.each([
    ["a type that is no word", { ...event(1), type: "Bad Type" }],
    ["an event_id that is no id", { ...event(1), eventId: "../x" }],
    ["more data than an event may have", { ...event(1), data: { text: "x".repeat(70_000) } }],
  ])("%s is refused for good and takes its seq", (_name, bad) => {
    expect(judgeEvent(bad, 0)).toMatchObject({ verdict: "refuse", rejection: { seq: 1, permanent: true } });
  });
  it("a gap is refused for now, whatever is in it", () => {
    expect(judgeEvent({ ...event(3), type: "Bad Type" }, 0)).toMatchObject({
      verdict: "gap",
      rejection: { permanent: false },
    });
  });
  it("a dropped range that begins too late does not close the gap", () => {
    expect(judgeEvent(event(9, 4), 1).verdict).toBe("gap");
    expect(judgeEvent(event(9, 2), 1).verdict).toBe("store");
  });
});
