/** Bytes of the heap before and after so many rounds of what growth.test.ts names. */
import { setImmediate as turn } from "node:timers/promises";

const [name = "", count = "0"] = process.argv.slice(2);
const { signal: forEver } = new AbortController();

const rounds: Record<string, () => void | Promise<void>> = {
  /** As link/outbox.ts waits: for a nudge or the end. */
  "a signal that any of two ends, one of which lives for ever"() {
    const nudge = new AbortController();
    const either = AbortSignal.any([nudge.signal, forEver]);
    either.addEventListener("abort", () => {}, { once: true });
    nudge.abort();
  },
  "a listener on a long-lived signal, taken off again"() {
    const listen = (): void => {};
    forEver.addEventListener("abort", listen, { once: true });
    forEver.removeEventListener("abort", listen);
  },
  "a timer that is cancelled"() {
    clearTimeout(setTimeout(() => {}, 60_000));
  },
  "a timer that fires": () => new Promise((resolve) => void setTimeout(resolve, 0)),
};

declare const Bun: { gc(force: boolean): void } | undefined;
const collect = async (): Promise<number> => {
  for (let n = 0; n < 5; n += 1) {
    if (typeof Bun === "undefined") (globalThis as { gc?(): void }).gc?.();
    else Bun.gc(true);
    await turn();
  }
  return process.memoryUsage().heapUsed;
};
const round = rounds[name];
if (round === undefined) throw new Error(`there is no ${name}`);
const live = async (times: number): Promise<void> => {
  const isQuick = name === "a timer that fires";
  for (let n = 0; n < times; n += 1) {
    if (isQuick && n % 1_000 !== 0) void round();
    else await round();
    if (n % 1_000 === 0) await turn();
  }
};
await live(5_000);
const before = await collect();
await live(Number(count));
console.log(JSON.stringify({ before, after: await collect() }));
