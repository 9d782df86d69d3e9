import { pause } from "@mig/kit";
import { isRetryable, MigError } from "@mig/lifecycle";

/**
 * Work of one stream that must reach the store, in order. Items wait here, are handed over in batches of at most
 * `batchMax`, one batch at a time, and the same batch again while the failure is one that passes: an agent from
 * before MIG has no way to send anything twice. `push` resolves when there is room for another item, in number and in
 * bytes; the reader waits for it, so that a slow database slows the agent down instead of filling our memory.
 */
export interface LaneSettings<T> {
  max: number;
  bytesMax: number;
  batchMax: number;
  retryMs: number;
  work(items: T[]): Promise<void>;
  /** It failed for good; the items are gone. */
  refused(items: T[], error: unknown): void;
}

export class Lane<T> {
  readonly #settings: LaneSettings<T>;
  readonly #end = new AbortController();
  #waiting: { item: T; bytes: number }[] = [];
  #bytes = 0;
  #underWay = 0;
  #isRunning = false;
  #room: (() => void) | undefined;

  constructor(settings: LaneSettings<T>) {
    this.#settings = settings;
  }

  /** `bytes`: how large it was on the wire. */
  push(item: T, bytes: number): Promise<void> | undefined {
    if (this.#end.signal.aborted) return undefined;
    this.#waiting.push({ item, bytes });
    this.#bytes += bytes;
    if (!this.#isRunning) void this.#run();
    const { max, bytesMax } = this.#settings;
    if (this.#waiting.length + this.#underWay < max && this.#bytes < bytesMax) return undefined;
    return new Promise((resolve) => {
      this.#room = resolve;
    });
  }

  /** Nothing more is begun; what is under way ends by itself. */
  close(): void {
    this.#end.abort();
    this.#waiting = [];
    this.#room?.();
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    // What arrives in one go is handed over in one go.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, this.#settings.batchMax);
      this.#underWay = batch.length;
      await this.#carry(batch.map(({ item }) => item));
      for (const { bytes } of batch) this.#bytes -= bytes;
      this.#underWay = 0;
      this.#room?.();
      this.#room = undefined;
    }
    this.#isRunning = false;
  }

  async #carry(batch: T[]): Promise<void> {
    const { work, refused, retryMs } = this.#settings;
    while (!this.#end.signal.aborted) {
      try {
        return await work(batch);
      } catch (error) {
        const passes = error instanceof MigError && isRetryable(error.category) && error.code !== "internal";
        if (!passes) return refused(batch, error);
        await pause(error.retryAfterMs ?? retryMs, this.#end.signal);
      }
    }
  }
}
