import { execFile } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { isBun } from "./start-probe.ts";

/**
 * The agent lives for days and makes such things with every event and heartbeat. Measured in a process of its own, after
 * a full collection; a leak of one signal or timer a round would be several times the bound. Node clears what weak references leave in
 * batches, so a few bytes a round may still be there.
 */
const program = join(fileURLToPath(new URL(".", import.meta.url)), "growth-program.ts");
const rounds = 40_000;

describe("what is made again and again leaves nothing behind", () => {
  test.each([
    "a signal that any of two ends, one of which lives for ever",
    "a listener on a long-lived signal, taken off again",
    "a timer that is cancelled",
    "a timer that fires",
  ])("%s", async (name) => {
    const gc = isBun ? [] : ["--expose-gc"];
    const { stdout } = await promisify(execFile)(process.execPath, [...gc, program, name, String(rounds)]);
    const { before, after } = JSON.parse(stdout) as { before: number; after: number };
    expect((after - before) / rounds).toBeLessThan(100);
  });
});
