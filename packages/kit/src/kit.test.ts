import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  BoundedQueue,
  createBackoff,
  createLog,
  formatDurationMs,
  hideValue,
  parseDurationMs,
  redact,
  uuid7,
} from "./index.ts";

describe("durations", () => {
  it("read back what they print", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 10 ** 12 }),
        (ms) => parseDurationMs(formatDurationMs(ms)) === ms,
      ),
    );
  });
  it.each(["", "15", "-1s", "1e9h", "s", "1 s", "NaN", "1s foo", `${"9".repeat(40)}h`])(
    "refuse %j",
    (text) => {
      expect(parseDurationMs(text)).toBeUndefined();
    },
  );
});

describe("backoff", () => {
  it("keeps every attempt inside its own window", () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 0, max: 0.999999, noNaN: true }), { minLength: 1, maxLength: 40 }),
        (dice) => {
          let at = 0;
          const backoff = createBackoff({
            firstMs: 100,
            capMs: 1_000,
            random: () => dice[at++ % dice.length] ?? 0,
          });
          let elapsed = 0;
          let windowStart = 0;
          for (let n = 0; n < 12; n += 1) {
            const windowMs = Math.min(1_000, 100 * 2 ** n);
            elapsed += backoff.nextMs();
            expect(elapsed).toBeGreaterThanOrEqual(windowStart - 1e-6);
            expect(elapsed).toBeLessThanOrEqual(windowStart + windowMs + 1e-6);
            windowStart += windowMs;
          }
        },
      ),
    );
  });
  it("never shortens the server's hint", () => {
    expect(createBackoff({ firstMs: 1, capMs: 2 }).nextMs(5_000)).toBeGreaterThanOrEqual(5_000);
  });
});

it("a full queue refuses, a closed one hands out the rest", async () => {
  const queue = new BoundedQueue<number>(2);
  expect([queue.push(1), queue.push(2), queue.push(3)]).toEqual([true, true, false]);
  queue.close();
  const seen: number[] = [];
  for await (const item of queue) seen.push(item);
  expect(seen).toEqual([1, 2]);
});

it("uuid7 is version 7, variant 2 and sorts by time", () => {
  const ids = [1, 2, 1_700_000_000_000, 1_700_000_000_001, 2 ** 47].map((ms) => uuid7(ms));
  for (const id of ids)
    expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  expect([...ids].sort()).toEqual(ids);
});

describe("a log line", () => {
  const logged = (fields: Record<string, unknown>, sentence = "said"): string => {
    let line = "";
    createLog({ level: "debug", write: (text) => (line += text) }).info(fields, sentence);
    return line;
  };
  it("says nothing to the terminal that shows it", () => {
    let line = "";
    const log = createLog({ level: "info", format: "text", write: (text) => (line += text) });
    log.info({ a: "\u001b[2J", b: "\u009b2J", c: "x\u202e\u2028\ny" }, "told");
    expect(line).toMatch(/^[ -~]+\n$/);
    expect(line).toContain('c="x\\u202e\\u2028\\ny"');
  });
  it("holds no secret by name, by look or by live value", () => {
    const forget = hideValue("correct horse battery");
    const line = logged(
      {
        registration_token: "AHTX1234567890123456",
        nested: { Authorization: "Bearer abc", jit_config: "e30=" },
        note: "sent ghs_abcdefghijklmnopqrst and correct horse battery",
        error: new Error("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc"),
      },
      "with Bearer xyz123",
    );
    forget();
    for (const secret of ["AHTX1", "abc", "e30=", "ghs_a", "correct horse", "eyJhbGci", "xyz123"]) {
      expect(line.replace(/"stack":"[^"]*"/, "")).not.toContain(secret);
    }
  });
  it("stays one line whatever is in it", () => {
    expect(logged({ text: "a\nb\u2028c\u001b[2J" }).trimEnd().split("\n")).toHaveLength(1);
  });
  it("keeps its shape with cycles of depth and with wide values", () => {
    const deep: Record<string, unknown> = {};
    deep["self"] = deep;
    expect(JSON.stringify(redact(deep))).toContain("[deep]");
    expect((redact(new Array(1000).fill(1)) as unknown[]).length).toBe(100);
  });
});
